"""Which target faces which images, and where the rows of that are kept."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

from jaxtyping import Float32
from torch import Tensor

from medrobust.core import Dataset, NetworkId
from medrobust.steps.batches import Batch, stack
from medrobust.steps.image_sets import Chunks, ImageSet, Part, digest
from medrobust.steps.measure import quantised
from medrobust.steps.noise import CPU, images_of
from medrobust.storage import RunFolder
from medrobust.storage.schemas import Table


@dataclass(frozen=True)
class Target:
    """A network that is judged.

    Attributes:
        network_id: Which one.
        recipe: Everything that its weights depend on (JSON).
    """

    network_id: NetworkId
    recipe: Mapping[str, Any]

    @cached_property
    def name(self) -> str:
        """Name of the folders of its rows."""
        return f"{self.network_id.folder}--{digest(self.recipe)}"

    def folder(self, table: Table) -> Part:
        """Folder of its rows of a table."""
        return ("results", "parts", table.name, self.name)

    def faces(self, image_set: ImageSet) -> bool:
        """White-box images are for the network they were made on, images of a fold for its networks."""
        if image_set.role == "whitebox":
            return image_set.source == self.network_id
        return image_set.fold == self.network_id.fold


@dataclass(frozen=True)
class Cell:
    """The images of a set, as they are or rounded, seen by a target.

    Attributes:
        image_set: The images.
        target: The network that sees them.
        bits: Bits per channel that the images are rounded to; None: as they are stored.
    """

    image_set: ImageSet
    target: Target
    bits: int | None = None

    def part(self, table: Table, chunk: int) -> Part:
        """Path of the rows of a chunk."""
        return (*self.target.folder(table), f"{self.image_set.name}{self._suffix}", f"{chunk:05d}.parquet")

    def timing_part(self, table: Table, chunk: int) -> Part:
        """Path of the time that a chunk took."""
        return (
            *self.target.folder(table),
            "timing",
            f"{self.image_set.name}{self._suffix}",
            f"{chunk:05d}.parquet",
        )

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that all of its rows share."""
        origin = self.image_set.origin
        return {
            **origin,
            "perturbation": origin["perturbation"] + self._suffix,
            "target": self.target.network_id.name,
            "target_seed": self.target.network_id.seed,
        }

    @property
    def _suffix(self) -> str:
        return "" if self.bits is None else f"~{self.bits}bit"


def cells_of(sets: Iterable[ImageSet], targets: Sequence[Target], quantise: int | None) -> Iterator[Cell]:
    """All cells of some sets: each as it is and, unless clean, rounded, with every target that faces it."""
    for image_set in sets:
        rounded = [] if quantise is None or image_set.kind == "clean" else [quantise]
        for bits in (None, *rounded):
            yield from (Cell(image_set, target, bits) for target in targets if target.faces(image_set))


def parts_of(cells: Iterable[Cell], table: Table) -> list[Part]:
    """Paths of the rows of all chunks of some cells."""
    return [cell.part(table, chunk) for cell in cells for chunk in range(len(cell.image_set.chunks))]


class Shown(NamedTuple):
    """The images of a chunk as a target sees them.

    Attributes:
        cell: Whose rows these images give.
        chunk: Which chunk of work.
        clean: The chunk as it is in the data.
        images: The chunk's images in this cell, on the CPU.
    """

    cell: Cell
    chunk: int
    clean: Batch
    images: Float32[Tensor, "n c *space"]


class Visit:
    """The chunks of some cells that lack rows, as `missing` says. Each image is read once for all of them."""

    def __init__(
        self,
        cells: Iterable[Cell],
        missing: Callable[[Cell, int], object],
        dataset: Dataset,
        folder: RunFolder,
    ) -> None:
        self._dataset, self._folder = dataset, folder
        same_cases: dict[Chunks, list[Cell]] = {}
        for cell in cells:
            same_cases.setdefault(cell.image_set.chunks, []).append(cell)
        every = (
            (chunks, number, [cell for cell in group if missing(cell, number)])
            for chunks, group in same_cases.items()
            for number in range(len(chunks))
        )
        self._open = [work for work in every if work[2]]

    def __len__(self) -> int:
        return sum(len(cells) for _, _, cells in self._open)

    def __iter__(self) -> Iterator[Shown]:
        for chunks, number, cells in self._open:
            clean = stack(self._dataset, chunks[number], CPU)
            for _, same_set in groupby(cells, key=lambda cell: cell.image_set.name):
                yield from self._shown(list(same_set), number, clean)

    def _shown(self, cells: list[Cell], number: int, clean: Batch) -> Iterator[Shown]:
        """The cells of one set; rounded ones follow each other."""
        stored = images_of(cells[0].image_set, number, clean, self._folder)
        for bits, same_bits in groupby(cells, key=lambda cell: cell.bits):
            images = stored if bits is None else quantised(stored, bits)
            for cell in same_bits:
                yield Shown(cell, number, clean, images)
