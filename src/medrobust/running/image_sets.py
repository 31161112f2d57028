"""Image sets: the images of some cases under one perturbation, whether read, stored or made again.

One place knows how a set's folder is named and how its cases are cut into chunks of work, so that crafting,
evaluating, embedding and showing use the same images. What a set is made of is known before anything is
computed: planning needs no network and no image.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from medrobust.core import Case, Dataset, NetworkId
from medrobust.perturbations import Request
from medrobust.perturbations.geometry import SupportMode
from medrobust.running.batches import evenly_spaced
from medrobust.running.chunks import Chunks
from medrobust.storage import RunFolder

BUDGET_CASES = 64

Part = tuple[str, ...]
"""Path of a file in the run folder."""


@dataclass(frozen=True)
class CraftJob:
    """An attack on one source.

    Attributes:
        request: The attack, as the study asks for it.
        source: The network to attack.
        role: "transfer" for a surrogate, "whitebox" for a target attacked directly.
        source_recipe: Digest of everything that the source's weights depend on.
        autocast: Reduced precision where the device offers it; success is measured in float32 all the same.
    """

    request: Request
    source: NetworkId
    role: Literal["transfer", "whitebox"]
    source_recipe: str
    autocast: bool = False


@dataclass(frozen=True)
class ImageSet:
    """The images of some cases under one perturbation.

    Attributes:
        kind: Read from the data, stored, or noise that is made again whenever it is read.
        perturbation: Label, e.g. "clean", "fgsm", "gaussian@fgsm".
        role: "noise" is noise of a fixed strength; noise matched to an attack has the attack's role.
        source: Network that the attack was crafted on; None for clean images and noise of a fixed strength.
        fold: Fold of the cases; None without folds.
        chunks: The cases, in chunks of work that hold whole scans.
        recipe: Everything that the images depend on (JSON).
        request: The attack or noise; None for clean images.
        attack: The set that noise is matched to.
    """

    kind: Literal["clean", "stored", "noise"]
    perturbation: str
    role: Literal["clean", "transfer", "whitebox", "noise"]
    source: NetworkId | None
    fold: int | None
    chunks: Chunks
    recipe: Mapping[str, Any]
    request: Request | None = None
    attack: "ImageSet | None" = None

    @cached_property
    def name(self) -> str:
        """Name of its folder below `crafted/`, and of the parts made from it."""
        return "--".join(
            (self.perturbation, self.source.folder if self.source else "any", digest(self.recipe))
        )

    @property
    def folder(self) -> Part:
        """Its folder in the run folder."""
        return ("crafted", self.name)

    @property
    def n_cases(self) -> int:
        """Number of its cases."""
        return self.chunks.n_cases

    @property
    def origin(self) -> dict[str, Any]:
        """The columns that say where its images come from."""
        return {
            "perturbation": self.perturbation,
            "source": self.source.name if self.source else "",
            "source_seed": self.source.seed if self.source else 0,
            "fold": self.fold,
            "role": self.role,
        }

    def rows_part(self, chunk: int) -> Part:
        """Path of the `crafted` rows of a chunk."""
        return (*self.folder, "rows", f"{chunk:05d}.parquet.gz")

    def timing_part(self, chunk: int) -> Part:
        """Path of the time that a chunk took."""
        return (*self.folder, "timing", f"{chunk:05d}.parquet.gz")

    def finished(self, folder: RunFolder) -> Set[int]:
        """The chunks whose images can be read."""
        if self.kind == "clean":
            return set(range(len(self.chunks)))
        return folder.numbers(*self.folder, "done" if self.kind == "stored" else "rows")

    def is_chunk_done(self, folder: RunFolder, chunk: int) -> bool:
        """True if the images of a chunk can be read."""
        if self.kind == "clean":
            return True
        done = (*self.folder, "done", f"{chunk:05d}.json") if self.kind == "stored" else self.rows_part(chunk)
        return folder.exists(*done)


def clean_set(dataset: Dataset, chunks: Chunks, *, fold: int | None = None) -> ImageSet:
    """The images as they are in the data."""
    return ImageSet("clean", "clean", "clean", None, fold, chunks, _data_recipe(dataset, chunks))


def crafted_set(
    job: CraftJob,
    dataset: Dataset,
    chunks: Chunks,
    *,
    seed: int,
    support_mode: SupportMode,
    validation: Iterable[Case] = (),
) -> ImageSet:
    """The stored images of an attack on a source.

    Args:
        job: Attack and source.
        dataset: Where the cases come from.
        chunks: The cases to attack.
        seed: Seed of the study.
        support_mode: Where the attack may act.
        validation: Cases that a budget given as an SSIM is solved on; of no effect for other attacks.
    """
    recipe = (
        _data_recipe(dataset, chunks)
        | _request_recipe(job.request)
        | {
            "network": job.source.folder,
            "source": job.source_recipe,
            "precision": "autocast" if job.autocast else "float32",
            "seed": seed,
            "support": support_mode,
            "budget_cases": []
            if job.request.ssim is None
            else [case.case_id for case in budget_cases(validation)],
        }
    )
    return ImageSet(
        "stored",
        job.request.label,
        job.role,
        job.source,
        job.source.fold,
        chunks,
        recipe,
        request=job.request,
    )


def fixed_noise_set(
    request: Request,
    dataset: Dataset,
    chunks: Chunks,
    *,
    seed: int,
    support_mode: SupportMode,
    fold: int | None = None,
) -> ImageSet:
    """Noise of the strength that the request gives."""
    recipe = (
        _data_recipe(dataset, chunks) | _request_recipe(request) | {"seed": seed, "support": support_mode}
    )
    return ImageSet("noise", request.label, "noise", None, fold, chunks, recipe, request=request)


def matched_noise_set(request: Request, attack: ImageSet) -> ImageSet:
    """Noise on an attack's cases, its strength solved image by image so that its SSIM is the attack's."""
    shared = {key: attack.recipe[key] for key in ("seed", "support")}
    return replace(
        attack,
        kind="noise",
        perturbation=f"{request.label}@{attack.perturbation}",
        recipe=_request_recipe(request) | shared | {"attack": attack.name},
        request=request,
        attack=attack,
    )


def budget_cases(validation: Iterable[Case]) -> tuple[Case, ...]:
    """At most 64 validation cases, evenly spaced; a budget given as an SSIM is solved on these."""
    return evenly_spaced(sorted(validation, key=lambda case: case.case_id), BUDGET_CASES)


def digest(recipe: Any) -> str:
    """Short hash of JSON-able data: equal for equal data, whatever the order of keys."""
    text = json.dumps(recipe, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _data_recipe(dataset: Dataset, chunks: Chunks) -> dict[str, Any]:
    return {"data": dataset.fingerprint, "cases": chunks.digest}


def _request_recipe(request: Request) -> dict[str, Any]:
    return {
        "perturbation": request.name,
        "revision": request.perturbation.revision,
        "parameters": dict(request.parameters),
        "on_misclassified": request.on_misclassified,
        "on_failure": request.on_failure,
        "ssim": request.ssim,
    }
