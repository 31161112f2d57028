"""Which target faces which images, and where the rows of that are kept."""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

from jaxtyping import Float32
from torch import Tensor

from medrobust.core import Dataset, NetworkId
from medrobust.running.batches import Batch, stack
from medrobust.running.image_sets import ImageSet, Part
from medrobust.running.measure import quantised
from medrobust.running.noise import CPU, images_of
from medrobust.storage import RunFolder
from medrobust.storage.schemas import Table


@dataclass(frozen=True)
class Target:
    """A network that is judged.

    Attributes:
        network_id: Which one.
        recipe: Digest of everything that its weights depend on.
    """

    network_id: NetworkId
    recipe: str

    @cached_property
    def name(self) -> str:
        """Name of the folders of its rows."""
        return f"{self.network_id.folder}--{self.recipe}"

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
        return (*self.rows_folder(table), part_name(chunk))

    def rows_folder(self, table: Table) -> Part:
        """Folder of the rows of all chunks."""
        return (*self.target.folder(table), f"{self.image_set.name}{self._suffix}")

    def timing_part(self, table: Table, chunk: int) -> Part:
        """Path of the time that a chunk took."""
        return (
            *self.target.folder(table),
            "timing",
            f"{self.image_set.name}{self._suffix}",
            part_name(chunk),
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


def part_name(chunk: int) -> str:
    """Name of the file with the rows of a chunk."""
    return f"{chunk:05d}.parquet.gz"


def finished(folders: Iterable[Part], folder: RunFolder) -> Set[int]:
    """The chunks that all of some folders have rows of."""
    found = [folder.numbers(*of_rows) for of_rows in folders]
    return set.intersection(*map(set, found)) if found else set()


def shown(cells: Iterable[Cell], number: int, dataset: Dataset, folder: RunFolder) -> Iterator[Shown]:
    """A chunk of one set as each of some cells sees it; it is read once.

    Cells of the same rounding follow each other.
    """
    stored: Float32[Tensor, "n c *space"] | None = None
    for bits, same_bits in groupby(cells, key=lambda cell: cell.bits):
        for cell in same_bits:
            if stored is None:
                clean = stack(dataset, cell.image_set.chunks[number], CPU)
                stored = images_of(cell.image_set, number, clean, folder)
            images = stored if bits is None else quantised(stored, bits)
            yield Shown(cell, number, clean, images)
