"""Export images of a finished run to files that other programs open."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float32, Int64
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from medrobust.core import Case, Dataset, Task, pixels_of
from medrobust.errors import RunError, unknown
from medrobust.perturbations import aimed, targets_of
from medrobust.running.batches import stack
from medrobust.running.craft import fraction_fooled
from medrobust.running.evaluate import images_of
from medrobust.running.export_files import (
    Item,
    Row,
    describe,
    file_name,
    read_image,
    write_image,
    write_labels,
)
from medrobust.running.folder import record_of, refuse_other_inputs
from medrobust.running.noise import CPU
from medrobust.running.plan import ImageSet, Plan, make_plan
from medrobust.running.predict import generators, outputs_of
from medrobust.running.setup import Setup, StudyNetwork, choose_device, set_up
from medrobust.storage import RunFolder, read_rows
from medrobust.storage.disk import clear_disk_errors
from medrobust.storage.schemas import CRAFTED
from medrobust.study.reading import read_stored_study
from medrobust.text import text_table


@dataclass(frozen=True)
class Wanted:
    """Which images a person asks for; everything by the names that tables show.

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


@dataclass(frozen=True)
class Exported:
    """What was written of one set of images.

    Attributes:
        perturbation: Its label.
        source: Folder of the network that it was crafted on; "" where there is none.
        folder: Where the files are.
        task: Of the study.
        bits: Bits per channel that the images were rounded to; None: not at all.
        pixels: What the images consist of, in words.
        files: Names of all files.
        changed: For every image whether it is of the set; the others are clean ones between those.
        stored: How far each image of the set fools its source as stored, see `fraction_fooled`. Empty without
            a source.
        written: The same of the rounded file, read again. Empty without `bits`.
    """

    perturbation: str
    source: str
    folder: Path
    task: Task
    bits: int | None
    pixels: str = "pixels"
    files: list[str] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)


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
    """Write images of a run to files that other programs can open, a folder per perturbation and source.

    Args:
        run: The run folder.
        to: Folder for the files.
        wanted: Which images.
        bits: Bits per channel of a rounded file beside the lossless one; None: no such file; "auto": 16 for
            photographs, none for scans.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        device: Where the networks run.
        dataset: The data, where the run was given them in Python.

    Raises:
        RunError: A name is unknown (the nearest is suggested), nothing fits, images are not finished, data or
            networks have changed since, or the files cannot be written.
        MedrobustError: Data or networks cannot be opened any more.
    """
    plan = _reopen(run, data, device, dataset)
    setup = plan.setup
    sets, cases = _sets(plan, wanted), _cases(setup.cases, wanted)
    is_picture = setup.dataset.affine is None and len(setup.dataset.shape) == 2
    rounding = bits if bits != "auto" else 16 if is_picture else None
    return [
        export_set(setup, images, own, Path(to), bits=rounding)
        for images in sets
        if (own := cases.intersection(images.cases))
    ]


def what_there_is(
    run: str | os.PathLike[str], *, data: str | os.PathLike[str] | None = None, device: str = "auto"
) -> Table:
    """The perturbations of a run with their sources, and examples of its cases; arguments as `export`."""
    plan = _reopen(run, data, device)
    table = text_table("--perturbation", "--source")
    for label in dict.fromkeys(images.perturbation for images in plan.sets):
        sources = [each.source.id.folder for each in plan.sets if each.perturbation == label and each.source]
        table.add_row(label, ", ".join(dict.fromkeys(sources)) or "-")
    cases = plan.setup.cases
    first = cases[0]
    table.caption = escape(  # names from data may look like markup
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
            _success(each, each.stored),
            _success(each, each.written) + (f", {each.bits} bits" if each.written else ""),
        )
    if not all(all(each.changed) for each in exported):
        table.caption = "What lies between the cases of the study is clean; the JSON files say which."
    return table


def _success(of: Exported, values: Sequence[float]) -> str:
    """How many images fool their source; of pixels and findings the mean fraction."""
    if not values:
        return "-"
    if of.task is Task.CLASSIFICATION:
        return f"{sum(values):.0f} of {len(values)}"
    return f"{sum(values) / len(values):.1%} of {of.pixels if of.task.has_maps else 'findings'}"


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


def _sets(plan: Plan, wanted: Wanted) -> list[ImageSet]:
    """Image sets by label and source, each once, in the order of the plan."""
    labels = dict.fromkeys(images.perturbation for images in plan.sets)
    for label in wanted.perturbations:
        if label not in labels:
            raise RunError(f"--perturbation: {unknown('perturbation', label, labels)}")
    networks = [images.source.id for images in plan.sets if images.source]
    known = {name for network in networks for name in (network.name, network.folder)}
    for name in wanted.sources:
        if name not in known:
            raise RunError(f"--source: {unknown('source', name, known)}")
    found = [
        images
        for images in plan.sets
        if images.perturbation in wanted.perturbations and _is_wanted(images, wanted.sources)
    ]
    if not found:
        raise RunError(
            f"No images of {', '.join(wanted.perturbations) or 'no perturbation'} on "
            f"{', '.join(wanted.sources) or 'any surrogate'}. "
            "`medrobust export RUN_DIR --list` shows what there is."
        )
    return found


def _is_wanted(images: ImageSet, sources: Sequence[str]) -> bool:
    if images.source is None:
        return True
    source = images.source.id
    if images.role == "whitebox":
        return source.folder in sources
    return not sources or source.folder in sources or source.name in sources


def _cases(every: Sequence[Case], wanted: Wanted) -> set[Case]:
    """The cases with any of the given names."""
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
    return chosen


def export_set(
    setup: Setup, images: ImageSet, cases: Collection[Case], to: Path, *, bits: int | None
) -> Exported:
    """Write images of a set, each scan or photograph by itself.

    Scans become NIfTI, from the first to the last of the cases; slices or patches between them that are not
    among the cases are the clean ones. Photographs become NumPy arrays and, with `bits`, PNG. Both come with
    their label maps (in segmentation) and a JSON file that says what is what.

    The files go to a folder in `to` that is named after the set; `bits` are 8, 16 or None.

    Raises:
        RunError: Images are not finished or damaged, or the files cannot be written.
    """
    source = images.source.id.folder if images.source else ""
    place = to / file_name("--".join(filter(None, (images.perturbation, source))))
    pixels = pixels_of(setup.dataset.shape)
    done = Exported(images.perturbation, source, place, setup.study.task, bits, pixels)
    with clear_disk_errors(str(place)):
        place.mkdir(parents=True, exist_ok=True)
        for item, rows in _items(setup, images, cases):
            done.changed.extend(item.changed)
            done.files.extend(_write(setup, images, item, rows, done))
    return done


def _items(setup: Setup, images: ImageSet, cases: Collection[Case]) -> Iterator[tuple[Item, dict[str, Row]]]:
    """The scans or photographs of the cases, and the `crafted` rows of their cases by id."""
    wanted, dataset = set(cases), setup.dataset
    for number, chunk in enumerate(images.chunks):
        if wanted.isdisjoint(chunk):
            continue
        every, _ = images_of(setup, images, number, stack(dataset, chunk, CPU))
        rows: dict[str, Row] = {}
        if images.request is not None:
            table = read_rows(setup.folder, CRAFTED, *images.rows_part(number))
            rows = {row["case_id"]: row for row in table.iter_rows(named=True)}
        made = {case: image for case, image in zip(chunk, every, strict=True) if case in wanted}
        for name, scan in groupby(made, key=attrgetter("case_id" if dataset.affine is None else "scan_id")):
            yield _item(file_name(name), {case: made[case] for case in scan}, dataset), rows


def _item(name: str, made: Mapping[Case, Tensor], dataset: Dataset) -> Item:
    """One scan or photograph, with the clean slices or patches that lie between those that were made."""
    scan_id = next(iter(made)).scan_id
    scan = sorted((case for case in dataset.cases if case.scan_id == scan_id), key=lambda case: case.position)
    lies_in_space = dataset.affine is not None and len(dataset.shape) == 3
    if lies_in_space and dataset.patches is None and scan[-1].position > 0:
        raise RunError(
            f"Scan '{scan_id}' is cut into patches whose positions are unknown. Let the data set say how "
            "many `patches` there are along each axis."
        )
    positions = [case.position for case in made]
    between = [case for case in scan if min(positions) <= case.position <= max(positions)]
    clean = stack(dataset, between, CPU)
    images = [made.get(case, image) for case, image in zip(clean.cases, clean.images, strict=True)]
    affine = None if dataset.affine is None else dataset.affine(scan_id)
    changed = tuple(case in made for case in clean.cases)
    original = None if dataset.original is None else dataset.original(scan_id)
    patches = None if affine is None else dataset.patches
    return Item(name, clean.cases, torch.stack(images), clean.labels, changed, affine, original, patches)


def _write(setup: Setup, images: ImageSet, item: Item, rows: Mapping[str, Row], done: Exported) -> list[str]:
    """Write all files of an item, and note how far its images fool their source; returns their names."""
    names = write_image(item, done.folder, done.bits)
    file = names[-1]
    seen = read_image(item, done.folder / file)
    # Targets by name, with their seeds where there are several.
    several = len(setup.study.targets.seeds) > 1
    shown = {
        target.id.name + (f"-s{target.id.seed}" if several else ""): _predict(setup, target, seen, item.cases)
        for target in setup.targets
        if target.id.fold == images.fold
    }
    if setup.study.task.has_maps:
        maps = {f"predicted-{name}": labels for name, labels in shown.items()}
        names += write_labels(item, done.folder, {"truth": item.labels, **maps})
    done.stored.extend(_fooled(setup, images, item, item.images))
    if done.bits is not None:
        done.written.extend(_fooled(setup, images, item, seen))
    description = describe(images, item, setup.dataset, rows, shown)
    text = json.dumps(description | {"predictions_of": file, "files": names}, indent=2, ensure_ascii=False)
    (done.folder / f"{item.name}.json").write_text(text + "\n", encoding="utf-8")
    return [*names, f"{item.name}.json"]


def _fooled(setup: Setup, images: ImageSet, item: Item, seen: Float32[Tensor, "n c *space"]) -> list[float]:
    """How far the perturbed images of an item fool their source."""
    if images.source is None or images.request is None:
        return []
    rngs = generators(setup.study.seed, images.request.name, item.cases)
    labels = aimed(images.request, item.labels, setup.dataset.classes)
    wanted = targets_of(images.request, labels, rngs, setup.dataset.spacing)
    fooled = fraction_fooled(_predict(setup, images.source, seen, item.cases), labels, wanted)
    return [
        value
        for value, changed in zip(fooled.tolist(), item.changed, strict=True)
        if changed and value == value
    ]


def _predict(
    setup: Setup, network: StudyNetwork, images: Float32[Tensor, "n c *space"], cases: Sequence[Case]
) -> Int64[Tensor, "n *labelspace"]:
    """Predicted classes of images, on the CPU."""
    return torch.cat([logits.argmax(1).cpu() for _, logits in outputs_of(setup, network, images, cases)])
