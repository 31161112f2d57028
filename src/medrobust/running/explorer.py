"""Cases as people see them: in the explorer of a report, in `medrobust view`, and in the report's figure.

results/explorer/<wanted>/<i>.npz  views of the slices (or the photo) of a scan, stacked
results/explorer/facts.json        which scans, sets, targets and pairs these are; written last
results/examples.npz, .json        the cases of the figure of examples
results/corruptions.npz, .json     a case under every corruption

A report that asks for another number of scans does not overwrite those that the facts still describe. In
views, images are rounded to eight bits and changes to `LEVELS` steps of the largest one. Nothing is computed
from them: scores and distances are measured on the images as stored.

Looking at cases raises a `ModelError` where the outputs of a network are not finite, a `RunError` where
images are not finished or damaged, and a `ValueError` where sets have different cases, or lack a wanted one.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float32, Int8, Int64, UInt8
from torch import Tensor

from medrobust.core import Case, OnProgress, Task
from medrobust.data.scans.geometry import codes_of
from medrobust.metrics.scores import dice_of_counts
from medrobust.running.batches import evenly_spaced, stack
from medrobust.running.estimate import Speeds
from medrobust.running.evaluate import evaluation_parts, images_of
from medrobust.running.jobs import Job, as_picture
from medrobust.running.noise import CPU
from medrobust.running.plan import ImageSet, Plan
from medrobust.running.predict import outputs_of
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.storage import Parts, RunFolder, digest, read_rows
from medrobust.storage.schemas import SCORED

EXPLORED: Parts = ("results", "explorer", "facts.json")
EXAMPLES, CORRUPTED = "examples", "corruptions"
"""Pictures of cases, by the name of their files."""

N_EXAMPLES = {Task.CLASSIFICATION: 4, Task.MULTILABEL: 4, Task.SEGMENTATION: 2}
"""Cases in the figure of examples."""

LEVELS = 31
"""Steps on either side of zero that a change is rounded to."""


@dataclass(frozen=True)
class View:
    """One case under some sets, seen by some targets.

    Attributes:
        clean: The image in the data, in 255ths.
        changes: What each set adds to it, in `largest / LEVELS`.
        largest: The largest absolute change of each set, in [0, 1].
        truth: A class, the findings, or a label map.
        answers: Probabilities of the classes or findings, or a label map, of each pair of `pairs_of`.
    """

    clean: UInt8[np.ndarray, "c *space"]
    changes: Int8[np.ndarray, "set c *space"]
    largest: Float32[np.ndarray, " set"]
    truth: Int64[np.ndarray, "*labelspace"]
    answers: np.ndarray


class Wanted(NamedTuple):
    """How much of a study its report shows image by image.

    Attributes:
        hardest: Scans that attacks hit hardest.
        typical: Scans near the median.
        slices: At most this many slices of each, evenly spaced.
    """

    hardest: int
    typical: int
    slices: int


class Chosen(NamedTuple):
    """A scan, and why it is shown."""

    scan_id: str
    why: Literal["hardest", "typical"]


def explorer_job(plan: Plan, speeds: Speeds) -> Job:
    """Keep scans for the explorer; after all cells are evaluated, since it shows where networks do worst."""
    setup, wanted = plan.setup, Wanted(**plan.setup.study.report.model_dump(include=set(Wanted._fields)))
    n_cases = min((wanted.hardest + wanted.typical) * wanted.slices, len(setup.cases))
    n_looks = n_cases * len(plan.explored)
    of = _made_of(plan.explored, setup.targets)

    def keep(piece: int, progress: OnProgress) -> None:
        table = SCORED[setup.study.task]
        attacked = [images for images in plan.explored if images.is_stored]
        parts = evaluation_parts(setup, attacked, setup.targets, table, rounded=False)
        rows = pl.concat(read_rows(setup.folder, table, *part) for part in parts)
        scores = scan_scores(rows, setup.study.task, setup.dataset.classes[0])
        chosen = chosen_scans(scores, wanted.hardest, wanted.typical)
        explore(setup, chosen, plan.explored, wanted, progress)

    job = Job(
        kind="examples",
        name="explorer",
        title="keep hardest and typical cases",
        seconds=n_looks * sum(speeds[target.id.name].forward for target in setup.targets),
        disk=0,
        finished=lambda: {0} if is_explored(setup.folder, wanted, of) else set(),
        open=lambda: keep,
    )
    return as_picture(job, "images one by one", "explorer", setup.folder, about="explorer", made=EXPLORED)


def scan_scores(rows: pl.DataFrame, task: Task, background: str) -> pl.DataFrame:
    """How well the networks do on every scan, by rows of `predictions` or `overlaps`.

    Returns:
        `scan_id, score`: the mean probability of the truth; or the mean Dice over structures that the
        truth has (but for the background), then over cells. Scans without any such structure are left out.
    """
    if not task.has_maps:
        score = pl.col("probabilities").list.get(pl.col("label"))
        return rows.group_by("scan_id").agg(score.mean().cast(pl.Float64).alias("score")).sort("scan_id")
    counted = rows.filter(pl.col("structure") != background)
    overlap = dice_of_counts(*(counted[name].to_numpy() for name in ("n_true", "n_pred", "n_both")))
    cell = ("scan_id", "perturbation", "source", "source_seed", "target", "target_seed")
    return (
        counted.with_columns(score=pl.Series(overlap))
        .filter(pl.col("score").is_not_nan())
        .group_by(cell)
        .agg(pl.col("score").mean())
        .group_by("scan_id")
        .agg(pl.col("score").mean())
        .sort("scan_id")
    )


def chosen_scans(scores: pl.DataFrame, hardest: int, typical: int) -> list[Chosen]:
    """The `hardest` scans, worst first, then of the others the `typical` nearest to the median."""
    worst = scores.sort("score", "scan_id")["scan_id"].head(hardest).to_list()
    distance = (pl.col("score") - pl.col("score").median()).abs()
    near = scores.sort(distance, "scan_id").filter(~pl.col("scan_id").is_in(worst))["scan_id"].head(typical)
    return [*(Chosen(scan, "hardest") for scan in worst), *(Chosen(scan, "typical") for scan in near)]


def explore(
    setup: Setup, chosen: Sequence[Chosen], sets: Sequence[ImageSet], wanted: Wanted, progress: OnProgress
) -> None:
    """Keep views of some scans for the report.

    The sets are the clean images, then all others to be shown, of the same cases fold by fold. `wanted` is
    kept with the views, by which they are recognised.
    """
    attacked = list(dict.fromkeys(case for images in sets for case in images.cases))
    told, affine = [], setup.dataset.affine
    for number, scan in enumerate(chosen):
        cases = shown_cases(attacked, scan.scan_id, wanted.slices)
        seen = views(setup, *holding(sets, setup.targets, cases[0]), cases)
        columns = {
            name: np.stack([getattr(view, name) for view in seen]) for name in View.__dataclass_fields__
        }
        setup.folder.write_bytes(_packed(columns), *_scan_part(wanted, number))
        axes = None if affine is None else codes_of(affine(scan.scan_id))
        told.append(scan._asdict() | {"cases": [case_facts(case) for case in cases], "axes": axes})
        progress((number + 1) / len(chosen), "")
    of_sets, of_targets, pairs = names_of(sets, setup.targets)
    facts = {"sets": of_sets, "targets": of_targets, "pairs": pairs, "scans": told}
    setup.folder.write_json(
        facts | {"wanted": wanted._asdict(), "of": _made_of(sets, setup.targets)}, *EXPLORED
    )


def is_explored(folder: RunFolder, wanted: Wanted, of: str) -> bool:
    """Whether the run folder has what is wanted, of the images and targets with this hash."""
    if not folder.exists(*EXPLORED):
        return False
    facts = folder.read_json(*EXPLORED)
    is_same = facts["wanted"] == wanted._asdict() and facts.get("of") == of
    return is_same and all(
        folder.exists(*_scan_part(wanted, number)) for number in range(len(facts["scans"]))
    )


def read_views(folder: RunFolder, wanted: Wanted, number: int) -> list[View]:
    """The views of a scan that `explore` kept.

    Raises:
        RunError: They are missing.
    """
    content = folder.read_bytes(*_scan_part(wanted, number))
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in View.__dataclass_fields__}
    return [
        View(**{name: np.asarray(column[case]) for name, column in columns.items()})
        for case in range(len(columns["clean"]))
    ]


def _scan_part(wanted: Wanted, number: int) -> Parts:
    return ("results", "explorer", "-".join(map(str, wanted)), f"{number:03d}.npz")


def names_of(
    sets: Sequence[ImageSet], targets: Sequence[StudyNetwork]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[int, int]]]:
    """Sets and targets as a page names them, whatever their fold, and the pairs that exist, by places."""
    keys = ("perturbation", "role", "source", "source_seed")
    of_sets = _distinct({key: images.origin[key] for key in keys} for images in sets)
    of_targets = _distinct({"name": target.id.name, "seed": target.id.seed} for target in targets)
    return of_sets, of_targets, pairs_of(*holding(sets, targets, next(sets[0].cases)))


def _distinct(names: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({tuple(name.values()): name for name in names}.values())


def holding(
    sets: Sequence[ImageSet], targets: Sequence[StudyNetwork], case: Case
) -> tuple[list[ImageSet], list[StudyNetwork]]:
    """The sets that a case is in, and the targets that face it: those of its fold."""
    of_case = [images for images in sets if any(case in chunk for chunk in images.chunks)]
    return of_case, [target for target in targets if of_case[0].is_faced_by(target)]


def pairs_of(sets: Sequence[ImageSet], targets: Sequence[StudyNetwork]) -> list[tuple[int, int]]:
    """Places of the sets and of the targets that face them, set by set."""
    return [
        (place, number)
        for place, images in enumerate(sets)
        for number, target in enumerate(targets)
        if images.is_faced_by(target)
    ]


def shown_cases(cases: Sequence[Case], scan_id: str, slices: int) -> tuple[Case, ...]:
    """The cases of a scan in the order of their positions, at most `slices`, evenly spaced."""
    of_scan = sorted((case for case in cases if case.scan_id == scan_id), key=lambda case: case.position)
    return evenly_spaced(of_scan, slices)


def case_facts(case: Case) -> dict[str, Any]:
    """What names a case on a page."""
    return {"case_id": case.case_id, "position": case.position, "label": case.label}


def views(
    setup: Setup, sets: Sequence[ImageSet], targets: Sequence[StudyNetwork], cases: Sequence[Case]
) -> list[View]:
    """A view of each case. The sets are finished and hold these cases, the clean one first."""
    images, labels = _collect(setup, sets, cases)
    return [
        View(
            *_changes(shown.numpy()),
            truth=label.numpy(),
            answers=_answers(setup, shown, case, sets, targets),
        )
        for case, shown, label in zip(cases, images, labels, strict=True)
    ]


def _collect(
    setup: Setup, sets: Sequence[ImageSet], cases: Sequence[Case]
) -> tuple[Float32[Tensor, "case set c *space"], Int64[Tensor, "case *labelspace"]]:
    """Images of the cases in each set, and their labels; each chunk is read once."""
    chunks = sets[0].chunks
    places = {case: (number, row) for number, chunk in enumerate(chunks) for row, case in enumerate(chunk)}
    if any(images.chunks != chunks for images in sets) or not all(case in places for case in cases):
        raise ValueError("sets: must have the same cases, and all that are to be shown among them.")
    found: dict[Case, tuple[Tensor, Tensor]] = {}
    for number in sorted({places[case][0] for case in cases}):
        clean = stack(setup.dataset, chunks[number], CPU)
        columns = [images_of(setup, each, number, clean)[0] for each in sets]
        for case in cases:
            if places[case][0] == number:
                row = places[case][1]
                found[case] = (torch.stack([images[row] for images in columns]), clean.labels[row])
    images, labels = zip(*(found[case] for case in cases), strict=True)
    return torch.stack(images), torch.stack(labels)


def _changes(
    shown: Float32[np.ndarray, "set c *space"],
) -> tuple[UInt8[np.ndarray, "c *space"], Int8[np.ndarray, "set c *space"], Float32[np.ndarray, " set"]]:
    """The clean image (the first set), what every set adds to it, and how much that is at most."""
    change = shown - shown[0]
    largest = np.abs(change).reshape(len(change), -1).max(1)
    step = np.where(largest > 0, largest, 1).reshape(-1, *(1 for _ in change.shape[1:]))
    return (
        np.rint(255 * shown[0].clip(0, 1)).astype(np.uint8),
        np.rint(LEVELS * (change / step)).astype(np.int8),
        largest.astype(np.float32),
    )


def _answers(
    setup: Setup,
    shown: Float32[Tensor, "set c *space"],
    case: Case,
    sets: Sequence[ImageSet],
    targets: Sequence[StudyNetwork],
) -> np.ndarray:
    """What every target says about the sets that it faces, in the order of `pairs_of`."""
    found = {}
    pairs = pairs_of(sets, targets)
    maps = setup.study.task.has_maps
    for number, target in enumerate(targets):
        places = [place for place, faced in pairs if faced == number]
        if places:
            said = _said(setup, target, shown[places], case)
            if setup.study.task is Task.MULTILABEL:
                said = said[:, 1]  # that a finding is present
            found.update({(place, number): row for place, row in zip(places, said.numpy(), strict=True)})
    answers = np.stack([found[pair] for pair in pairs])
    return answers.astype(np.uint16) if maps else answers


def _said(setup: Setup, target: StudyNetwork, images: Tensor, case: Case) -> Tensor:
    """What a target says about one case under some perturbations: probabilities, or label maps."""
    answer = torch.argmax if setup.study.task.has_maps else torch.softmax
    logits = outputs_of(setup, target, images, [case] * len(images))
    return torch.cat([answer(part.float(), 1).cpu() for _, part in logits])


def examples_jobs(plan: Plan) -> Iterator[Job]:
    """Keep some cases under every attack, and one under every corruption, with what a target says to them."""
    study, first = plan.setup.study, plan.setup.folds[0]
    yield _examples_job(plan.setup, EXAMPLES, plan.shown, N_EXAMPLES[study.task])
    corrupted = [images for images in plan.corruptions if images.fold == first.number]
    if corrupted:
        yield _examples_job(plan.setup, CORRUPTED, (plan.shown[0], *corrupted), 1)


def _examples_job(setup: Setup, name: str, sets: Sequence[ImageSet], n_cases: int) -> Job:
    cases = example_cases(setup.folds[0].cases, setup.study.task, n_cases)
    of = _made_of(sets, setup.targets[:1], cases)

    def keep(piece: int, progress: OnProgress) -> None:
        keep_examples(setup, sets, setup.targets[0], cases, name)

    def finished() -> set[int]:
        facts, arrays = example_files(name)
        is_kept = setup.folder.exists(*facts) and setup.folder.exists(*arrays)
        return {0} if is_kept and setup.folder.read_json(*facts).get("of") == of else set()

    job = Job(
        kind="examples",
        name=name,
        title=f"keep {name}" if name == EXAMPLES else "keep an example of each corruption",
        seconds=1.0 + 0.05 * len(sets),
        disk=0,
        finished=finished,
        open=lambda: keep,
    )
    return as_picture(job, name, name, setup.folder, about=name, made=example_files(name)[0])


def example_files(name: str) -> tuple[Parts, Parts]:
    """What is said about examples, and their arrays."""
    return ("results", f"{name}.json"), ("results", f"{name}.npz")


def example_cases(cases: Iterable[Case], task: Task, count: int) -> tuple[Case, ...]:
    """A few cases worth showing: of different classes, or the most labelled slice of each patient."""
    largest_first = sorted(cases, key=lambda case: (-case.foreground, case.case_id))
    groups: dict[Any, list[Case]] = {}
    for case in largest_first:
        groups.setdefault(case.patient_id if task.has_maps else case.label, []).append(case)
    in_turn = (
        group[turn]
        for turn in range(len(largest_first))
        for _, group in sorted(groups.items())
        if turn < len(group)
    )
    return tuple(islice(in_turn, count))


def keep_examples(
    setup: Setup, sets: Sequence[ImageSet], target: StudyNetwork, cases: Sequence[Case], name: str = EXAMPLES
) -> None:
    """Write `results/<name>.npz` and, last, `results/<name>.json`.

    The sets are the columns of the figure: finished, of one source, and all with these cases.
    """
    images, labels = _collect(setup, sets, cases)
    said = torch.stack([_said(setup, target, shown, case) for case, shown in zip(cases, images, strict=True)])
    arrays = {"images": images.numpy(), "labels": labels.numpy(), "predictions": said.numpy()}
    if not setup.study.task.has_maps:
        arrays["predictions"] = said.argmax(2).numpy()
    if setup.study.task is Task.CLASSIFICATION and target.spec.output.kind != "decisions":
        arrays["probabilities"] = said.amax(2).numpy()
    facts, packed = example_files(name)
    setup.folder.write_bytes(_packed(arrays), *packed)
    setup.folder.write_json(
        {
            "target": target.id.name,
            "source": next((images.source.id.name for images in sets if images.source), ""),
            "cases": [{"case_id": case.case_id, "label": case.label} for case in cases],
            "columns": [images.perturbation for images in sets],
            "of": _made_of(sets, [target], cases),
        },
        *facts,
    )


def _made_of(sets: Iterable[ImageSet], targets: Iterable[StudyNetwork], cases: Iterable[Case] = ()) -> str:
    """Short hash of images, networks and cases, to recognise what was kept of them: a study may change."""
    names = [images.name for images in sets], [target.key for target in targets]
    return digest([*names, [case.case_id for case in cases]])


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
