"""Export: images of a run as files that other programs open, with what the networks make of them."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from medrobust.core import Case, Dataset, Task
from medrobust.errors import RunError
from medrobust.perturbations import targets_of
from medrobust.running.batches import stack
from medrobust.running.exported import Item, Row, describe, file_name, read_image, write_image, write_labels
from medrobust.running.image_sets import ImageSet
from medrobust.running.measure import share_fooled
from medrobust.running.memory import Limit
from medrobust.running.noise import CPU, images_of
from medrobust.running.predict import generators, outputs_of
from medrobust.storage import RunFolder, read_rows
from medrobust.storage.disk import clear_disk_errors
from medrobust.storage.schemas import CRAFTED


@dataclass(frozen=True)
class Viewers:
    """The networks that look at what is exported, prepared, on `device`.

    Attributes:
        source: The one that the images were crafted on; None for clean images and noise of fixed strength.
        targets: Those whose predictions are written, by name.
        device: Where they are.
        limit: Images that they see together.
    """

    source: nn.Module | None
    targets: Mapping[str, nn.Module]
    device: torch.device
    limit: Limit = field(default_factory=Limit)

    def predict(
        self, network: nn.Module, images: Float32[Tensor, "n c *space"], cases: Sequence[Case]
    ) -> Int64[Tensor, "n *labelspace"]:
        """Predicted classes of images, on the CPU."""
        outputs = outputs_of(
            network, images, name="exported", cases=cases, device=self.device, limit=self.limit
        )
        return torch.cat([output.argmax(1).cpu() for _, output in outputs])


@dataclass(frozen=True)
class Exported:
    """What was written of one set of images.

    Attributes:
        perturbation: Its label.
        source: Folder of the network that it was crafted on; "" where there is none.
        folder: Where the files are.
        task: Of the study.
        bits: Bits per channel that the images were rounded to; None: not at all.
        files: Names of all files.
        changed: For every image whether it is of the set; the others are clean slices between those.
        stored: How far each image fools its source as it is stored: 0 or 1 for a photograph; for a slice the
            share of the pixels that the attack wanted otherwise which the source shows as wanted (of all
            pixels those that are wrong, without targets). Empty without a source.
        written: The same of the rounded file, read again. Empty without `bits`.
    """

    perturbation: str
    source: str
    folder: Path
    task: Task
    bits: int | None
    files: list[str] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)


def export_set(
    image_set: ImageSet,
    cases: Collection[Case],
    viewers: Viewers,
    dataset: Dataset,
    folder: RunFolder,
    to: Path,
    *,
    bits: int | None,
) -> Exported:
    """Write images of a set, each scan or photograph by itself.

    Scans become NIfTI, from the first to the last of the cases; slices between them that are not among the
    cases are the clean ones. Photographs become NumPy arrays and, with `bits`, PNG. Both come with their
    label maps (in segmentation) and a JSON file that says what is what.

    Args:
        image_set: Finished images of a run.
        cases: Some of its cases.
        viewers: The networks that look at the images.
        dataset: Where the cases come from.
        folder: The run folder.
        to: Folder for the files; they go to a folder in it that is named after the set.
        bits: 8 or 16 bits per channel to round to, beside the lossless copy; None: only that.

    Raises:
        RunError: Images are not finished or damaged, or the files cannot be written.
    """
    source = image_set.source.folder if image_set.source else ""
    place = to / file_name("--".join(filter(None, (image_set.perturbation, source))))
    done = Exported(image_set.perturbation, source, place, dataset.task, bits)
    with clear_disk_errors(str(place)):
        place.mkdir(parents=True, exist_ok=True)
        for item, rows in _items(image_set, cases, dataset, folder):
            done.changed.extend(item.changed)
            done.files.extend(_write(image_set, item, rows, viewers, dataset, done))
    return done


def _write(
    image_set: ImageSet,
    item: Item,
    rows: Mapping[str, Row],
    viewers: Viewers,
    dataset: Dataset,
    done: Exported,
) -> list[str]:
    """Write all files of an item, and note how far its images fool their source; returns their names."""
    names = write_image(item, done.folder, done.bits)
    file = names[-1]
    seen = read_image(item, done.folder / file)
    shown = {name: viewers.predict(network, seen, item.cases) for name, network in viewers.targets.items()}
    if dataset.task is Task.SEGMENTATION:
        maps = {f"predicted-{name}": labels for name, labels in shown.items()}
        names += write_labels(item, done.folder, {"truth": item.labels, **maps})
    done.stored.extend(_fooled(image_set, item, item.images, viewers, dataset))
    if done.bits is not None:
        done.written.extend(_fooled(image_set, item, seen, viewers, dataset))
    description = describe(image_set, item, dataset, rows, shown) | {"predictions_of": file, "files": names}
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (done.folder / f"{item.name}.json").write_text(text, encoding="utf-8")
    return [*names, f"{item.name}.json"]


def _items(
    image_set: ImageSet, cases: Collection[Case], dataset: Dataset, folder: RunFolder
) -> Iterator[tuple[Item, dict[str, Row]]]:
    """The scans or photographs of the cases, and the `crafted` rows of their cases by id."""
    wanted = set(cases)
    for number, chunk in enumerate(image_set.chunks):
        if wanted.isdisjoint(chunk):
            continue
        images = images_of(image_set, number, stack(dataset, chunk, CPU), folder)
        rows: dict[str, Row] = {}
        if image_set.kind != "clean":
            table = read_rows(folder, CRAFTED, *image_set.rows_part(number))
            rows = {row["case_id"]: row for row in table.iter_rows(named=True)}
        made = {case: image for case, image in zip(chunk, images, strict=True) if case in wanted}
        for name, scan in groupby(made, key=lambda case: _item_name(case, dataset)):
            yield _item(name, {case: made[case] for case in scan}, dataset), rows


def _item_name(case: Case, dataset: Dataset) -> str:
    return file_name(case.case_id if dataset.affine is None else case.scan_id)


def _item(name: str, made: Mapping[Case, Tensor], dataset: Dataset) -> Item:
    """One scan or photograph, with the clean slices that lie between those that were made."""
    scan_id = next(iter(made)).scan_id
    scan = sorted((case for case in dataset.cases if case.scan_id == scan_id), key=lambda case: case.position)
    if dataset.affine is not None and len(dataset.shape) == 3 and scan[-1].position > 0:
        raise RunError(
            f"Scan '{scan_id}' is cut to patches, and where each lies is not known here. Only slices, whole "
            "volumes and photographs can be exported."
        )
    positions = [case.position for case in made]
    between = [case for case in scan if min(positions) <= case.position <= max(positions)]
    clean = stack(dataset, between, CPU)
    images = [made.get(case, image) for case, image in zip(clean.cases, clean.images, strict=True)]
    affine = None if dataset.affine is None else dataset.affine(scan_id)
    changed = tuple(case in made for case in clean.cases)
    original = None if dataset.original is None else dataset.original(scan_id)
    return Item(name, clean.cases, torch.stack(images), clean.labels, changed, affine, original)


def _fooled(
    image_set: ImageSet,
    item: Item,
    images: Float32[Tensor, "n c *space"],
    viewers: Viewers,
    dataset: Dataset,
) -> list[float]:
    """How far the perturbed images of an item fool their source."""
    if viewers.source is None or image_set.request is None:
        return []
    rngs = generators(image_set.recipe["seed"], image_set.request.name, item.cases)
    wanted = targets_of(image_set.request, item.labels, rngs, dataset.spacing)
    fooled = share_fooled(viewers.predict(viewers.source, images, item.cases), item.labels, wanted)
    return [
        value
        for value, changed in zip(fooled.tolist(), item.changed, strict=True)
        if changed and value == value
    ]
