"""What the explorer of a report shows: the hardest and some typical scans, kept with the run.

results/explorer/<wanted>/<i>.npz  views of the slices (or the photo) of a scan, stacked
results/explorer/facts.json        which scans, sets, targets and pairs these are; written last

Who wants another number of them later does not write over those that the facts still tell of.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from medrobust.core import Case, Dataset, NetworkId, OnProgress, silent
from medrobust.running.batches import evenly_spaced
from medrobust.running.examples import made_of
from medrobust.running.hardest import Chosen
from medrobust.running.image_sets import ImageSet, Part
from medrobust.running.targets import Target
from medrobust.running.views import View, pairs_of, views
from medrobust.storage import RunFolder

FACTS: Part = ("results", "explorer", "facts.json")


class Wanted(NamedTuple):
    """How much of a study its report shows image by image.

    Attributes:
        hardest: Scans that attacks hit hardest.
        typical: Scans near the median.
        slices: At most so many slices of each, evenly spaced.
    """

    hardest: int
    typical: int
    slices: int

    @property
    def name(self) -> str:
        """Name of the folder of what is kept for it."""
        return "-".join(map(str, self))


def scan_part(wanted: Wanted, number: int) -> Part:
    """Path of the views of a scan."""
    return ("results", "explorer", wanted.name, f"{number:03d}.npz")


def is_explored(folder: RunFolder, wanted: Wanted, of: str) -> bool:
    """True if the run folder has what is wanted of these images; see `examples.made_of`."""
    if not folder.exists(*FACTS):
        return False
    facts = folder.read_json(*FACTS)
    parts = [scan_part(wanted, number) for number in range(len(facts["scans"]))]
    is_same = facts["wanted"] == wanted._asdict() and facts.get("of") == of
    return is_same and all(folder.exists(*part) for part in parts)


def names_of(
    sets: Sequence[ImageSet], targets: Sequence[Target]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[int, int]]]:
    """Sets and targets as a page names them, whatever their fold, and the pairs that exist, by places."""
    of_sets = _distinct(_set_name(each) for each in sets)
    of_targets = _distinct({"name": each.network_id.name, "seed": each.network_id.seed} for each in targets)
    first = next(case for chunk in sets[0].chunks for case in chunk)
    return of_sets, of_targets, pairs_of(*holding(sets, targets, first))


def holding(
    sets: Sequence[ImageSet], targets: Sequence[Target], case: Case
) -> tuple[list[ImageSet], list[Target]]:
    """The sets that a case is in, and the targets that face it: those of its fold."""
    of_case = [each for each in sets if any(case in chunk for chunk in each.chunks)]
    return of_case, [target for target in targets if target.faces(of_case[0])]


def shown_cases(cases: Sequence[Case], scan_id: str, slices: int) -> tuple[Case, ...]:
    """The cases of a scan in the order of their positions; at most so many, evenly spaced."""
    of_scan = sorted((case for case in cases if case.scan_id == scan_id), key=lambda case: case.position)
    return evenly_spaced(of_scan, slices)


def explore(
    chosen: Sequence[Chosen],
    sets: Sequence[ImageSet],
    targets: Sequence[Target],
    networks: Mapping[NetworkId, nn.Module],
    dataset: Dataset,
    folder: RunFolder,
    *,
    wanted: Wanted,
    device: torch.device | str = "cpu",
    progress: OnProgress = silent,
) -> None:
    """Keep views of some scans for the report.

    Args:
        chosen: The scans.
        sets: Clean images first, then all that are to be shown; of the same cases, fold by fold.
        targets: The networks that are judged.
        networks: Each target's network, on `device` and in eval mode.
        dataset: Where the scans come from.
        folder: The run folder.
        wanted: What was asked for, to be recognised.
        device: Where the networks are.
        progress: Told the progress after each scan.

    Raises:
        ModelError: A network's outputs are not finite.
        RunError: Images are not finished or damaged, or the disk is full.
    """
    attacked = list(dict.fromkeys(case for each in sets for chunk in each.chunks for case in chunk))
    told = []
    for number, scan in enumerate(chosen):
        cases = shown_cases(attacked, scan.scan_id, wanted.slices)
        seen = views(*holding(sets, targets, cases[0]), networks, dataset, cases, folder, device=device)
        folder.write_bytes(_packed(seen), *scan_part(wanted, number))
        told.append(scan._asdict() | {"cases": [case_facts(case) for case in cases]})
        progress((number + 1) / len(chosen), "")
    of_sets, of_targets, pairs = names_of(sets, targets)
    facts = {"sets": of_sets, "targets": of_targets, "pairs": pairs, "scans": told}
    folder.write_json(facts | {"wanted": wanted._asdict(), "of": made_of(sets, targets)}, *FACTS)


def case_facts(case: Case) -> dict[str, Any]:
    """What names a case on a page."""
    return {"case_id": case.case_id, "position": case.position, "label": case.label}


def read_views(folder: RunFolder, wanted: Wanted, number: int) -> list[View]:
    """The views of a scan that `explore` kept.

    Raises:
        RunError: They are missing.
    """
    with np.load(io.BytesIO(folder.read_bytes(*scan_part(wanted, number))), allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in View.__dataclass_fields__}
    return [
        View(**{name: np.asarray(column[case]) for name, column in columns.items()})
        for case in range(len(columns["clean"]))
    ]


def _set_name(image_set: ImageSet) -> dict[str, Any]:
    origin = image_set.origin
    return {key: origin[key] for key in ("perturbation", "role", "source", "source_seed")}


def _distinct(names: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({tuple(name.values()): name for name in names}.values())


def _packed(seen: Sequence[View]) -> bytes:
    buffer = io.BytesIO()
    columns = {name: np.stack([getattr(view, name) for view in seen]) for name in View.__dataclass_fields__}
    np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()
