"""Which images of a finished run are exported: labels, sources and cases by the names that tables show."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table

from medrobust.core import Case, Dataset, NetworkId, Task
from medrobust.errors import RunError, unknown
from medrobust.models import Network
from medrobust.running.devices import choose_device
from medrobust.running.export import Exported, Viewers, export_set
from medrobust.running.image_sets import ImageSet
from medrobust.running.opening import set_up
from medrobust.running.plan import Plan, make_plan
from medrobust.running.recorded import record_of, refuse_other_inputs
from medrobust.running.setup import Setup
from medrobust.storage import RunFolder
from medrobust.study.reading import read_stored_study
from medrobust.text import text_table


@dataclass(frozen=True)
class Wanted:
    """What a person asks for; everything by name.

    Attributes:
        perturbations: Labels, e.g. "clean", "fgsm", "gaussian@fgsm".
        sources: Networks that attacks were crafted on: a model's name, for its surrogates, or the name of a
            network's folder, e.g. "unet-target-s0" for attacks on a target itself. Empty: all surrogates.
        cases: Photographs or slices.
        scans: Photographs or whole volumes.
        patients: Everything of these patients.
    """

    perturbations: Sequence[str]
    sources: Sequence[str] = ()
    cases: Sequence[str] = ()
    scans: Sequence[str] = ()
    patients: Sequence[str] = ()


def export(
    run: str | os.PathLike[str],
    to: str | os.PathLike[str],
    wanted: Wanted,
    *,
    bits: Literal["auto", 8, 16] | None = "auto",
    data: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dataset: Dataset | None = None,
) -> list[Exported]:
    """Write images of a run to files that other programs open, a folder for each perturbation and source.

    Args:
        run: The run folder.
        to: Folder for the files.
        wanted: Which images.
        bits: Bits per channel of a rounded file beside the lossless one; None writes none, "auto" only of
            photographs, with 16 bits.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        device: Where the networks look at them.
        dataset: The data, where the run was given them in Python.

    Raises:
        RunError: A name is unknown (the nearest is suggested), nothing fits, images are not finished, data or
            networks have changed since, or the files cannot be written.
        MedrobustError: Data or networks cannot be opened any more.
    """
    plan = _reopen(run, data, device, dataset)
    setup = plan.setup
    sets, cases = _sets(plan, wanted), _cases(setup.cases, wanted)
    trained = {network.id: network for network in (*setup.targets, *setup.surrogates)}
    is_picture = setup.dataset.affine is None and len(setup.dataset.shape) == 2
    rounding = bits if bits != "auto" else 16 if is_picture else None
    exported = []
    for image_set in sets:
        own = [case for case in cases if any(case in chunk for chunk in image_set.chunks)]
        if not own:  # they belong to another fold
            continue
        source = setup.network(trained[image_set.source]) if image_set.source else None
        viewers = Viewers(source, _facing(setup, image_set), setup.device, setup.limit)
        exported.append(
            export_set(image_set, own, viewers, setup.dataset, setup.folder, Path(to), bits=rounding)
        )
    return exported


def _facing(setup: Setup, image_set: ImageSet) -> dict[str, Network]:
    """The targets of the fold that images belong to, by name; with their seeds where there are several."""
    several = len(setup.study.targets.seeds) > 1
    return {
        network.id.name + (f"-s{network.id.seed}" if several else ""): setup.network(network)
        for network in setup.targets
        if network.id.fold == image_set.fold
    }


def what_there_is(
    run: str | os.PathLike[str], *, data: str | os.PathLike[str] | None = None, device: str = "auto"
) -> Table:
    """The perturbations of a run with their sources, and how its cases are called; arguments as `export`."""
    plan = _reopen(run, data, device)
    table = text_table("--perturbation", "--source")
    for label in dict.fromkeys(image_set.perturbation for image_set in plan.sets):
        sources = [each.source.folder for each in plan.sets if each.perturbation == label and each.source]
        table.add_row(label, ", ".join(dict.fromkeys(sources)) or "-")
    cases = plan.setup.cases
    first = cases[0]
    table.caption = (
        f"{len(cases)} cases, e.g. --case {first.case_id}, --scan {first.scan_id}, "
        f"--patient {first.patient_id}"
    )
    return table


def exported_table(exported: Sequence[Exported]) -> Table:
    """What was written, and how much of an attack's success is left in rounded files."""
    table = text_table("perturbation", "source", "images", "files", "fools its source", "after rounding")
    for each in exported:
        images, clean = sum(each.changed), len(each.changed) - sum(each.changed)
        table.add_row(
            each.perturbation,
            each.source or "-",
            f"{images} + {clean} clean" if clean else str(images),
            str(len(each.files)),
            _share(each.stored, each.task),
            _share(each.written, each.task) + (f", {each.bits} bits" if each.written else ""),
        )
    if not all(all(each.changed) for each in exported):
        table.caption = "Slices between those of the study are clean; the JSON files say which."
    return table


def _reopen(
    run: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    device: str,
    dataset: Dataset | None = None,
) -> Plan:
    """The plan of a run folder, with data and networks as they were."""
    folder = RunFolder(run)
    study, data_dir = read_stored_study(folder), None if data is None else Path(data)
    setup = set_up(study, folder, data_dir=data_dir, device=choose_device(device), dataset=dataset)
    refuse_other_inputs(record_of(setup), folder)
    return make_plan(setup)


def _share(values: Sequence[float], task: Task) -> str:
    """Of photographs how many do, of slices the mean share of pixels."""
    if not values:
        return "-"
    if task is Task.CLASSIFICATION:
        return f"{sum(values):.0f} of {len(values)}"
    return f"{sum(values) / len(values):.1%} of pixels"


def _sets(plan: Plan, wanted: Wanted) -> list[ImageSet]:
    """Image sets by label and source, each once, in the order of the plan."""
    labels = dict.fromkeys(image_set.perturbation for image_set in plan.sets)
    for label in wanted.perturbations:
        if label not in labels:
            raise RunError(f"--perturbation: {unknown('perturbation', label, labels)}")
    networks = [image_set.source for image_set in plan.sets if image_set.source]
    known = {name for network in networks for name in (network.name, network.folder)}
    for name in wanted.sources:
        if name not in known:
            raise RunError(f"--source: {unknown('source', name, known)}")
    found = [
        image_set
        for image_set in plan.sets
        if image_set.perturbation in wanted.perturbations and _is_wanted(image_set, wanted.sources)
    ]
    if not found:
        raise RunError(
            f"No images of {', '.join(wanted.perturbations) or 'no perturbation'} on "
            f"{', '.join(wanted.sources) or 'any surrogate'}. "
            "`medrobust export RUN_DIR --list` shows what there is."
        )
    return found


def _is_wanted(image_set: ImageSet, sources: Sequence[str]) -> bool:
    source: NetworkId | None = image_set.source
    if source is None:
        return True
    if image_set.role == "whitebox":
        return source.folder in sources
    return not sources or source.folder in sources or source.name in sources


def _cases(every: Sequence[Case], wanted: Wanted) -> list[Case]:
    """The cases that any of the given names stands for."""
    chosen: set[Case] = set()
    by: dict[str, tuple[Sequence[str], Callable[[Case], str]]] = {
        "case": (wanted.cases, lambda case: case.case_id),
        "scan": (wanted.scans, lambda case: case.scan_id),
        "patient": (wanted.patients, lambda case: case.patient_id),
    }
    for kind, (names, name_of) in by.items():
        known = {name_of(case) for case in every}
        for name in names:
            if name not in known:
                raise RunError(
                    f"--{kind}: {unknown(kind, name, known)} Only what was attacked can be exported."
                )
        chosen |= {case for case in every if name_of(case) in names}
    if not chosen:
        raise RunError(
            f"Which images? Give --case, --scan or --patient, e.g. --scan {every[0].scan_id}; "
            "`medrobust export RUN_DIR --list` shows more."
        )
    return [case for case in every if case in chosen]
