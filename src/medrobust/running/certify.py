"""Certificates: what is certain of every smoothed target, and what an attack on it finds at the same radii.

Everything is done image by image, with draws that depend on the study's seed and the case only.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from medrobust.core import UNKNOWN, Case, Dataset, OnProgress
from medrobust.metrics.overlap import overlap_counts
from medrobust.perturbations import pgd
from medrobust.perturbations.smoothing import ABSTAINED, Smoothed, certify, is_contradicted, votes
from medrobust.rng import generator
from medrobust.running.batches import Batch, Chunks, evenly_spaced, stack
from medrobust.running.estimate import Speeds
from medrobust.running.jobs import Do, Job
from medrobust.running.plan import part_name, target_folder
from medrobust.running.predict import output_of, remember_weights
from medrobust.running.rows import timed
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.storage import Parts, digest, frame_of, write_rows
from medrobust.storage.schemas import CERTIFICATES
from medrobust.study.config import Certificates

REVISION = 1
"""Raised with every change of the certificates."""

NORMAL_SECONDS = 1e-8
"""What drawing an entry of the noise takes."""


class Statement(NamedTuple):
    """What is said of an image: what the network answers, or what is certain of the smoothed one.

    Attributes:
        condition: See `CERTIFICATES`.
        radius: L2 norm of the changes that it is about.
        answers: Class of the image, or of each pixel; -1 where nothing is certain.
        largest_radius: Of an image with one class: up to where its answer is certified, 0 if it is not.
        contradicted: Whether the attack has found what a certificate rules out.
    """

    condition: str
    radius: float
    answers: Int64[Tensor, "1 *space"]
    largest_radius: float | None = None
    contradicted: bool = False


def certification_jobs(setup: Setup, speeds: Speeds) -> list[Job]:
    """A job for each target that has cases to certify, with a piece per scan; none unless asked for."""
    return [_job(setup, target, speeds) for target in setup.targets if certified_scans(setup, target)]


def _job(setup: Setup, target: StudyNetwork, speeds: Speeds) -> Job:
    asked, scans, speed = _asked(setup), certified_scans(setup, target), speeds[target.id.name]
    attacked = len(asked.tested[1:]) * (asked.attack_steps > 0 and setup.has_gradient(target))
    forward = 1 + asked.selection * (1 + attacked) + asked.draws
    entries = setup.dataset.channels * math.prod(setup.dataset.shape)
    seconds = forward * (speed.forward + NORMAL_SECONDS * entries)
    seconds += attacked * asked.attack_steps * asked.attack_draws * speed.gradient
    folder = rows_folder(setup, target)
    return Job(
        kind="certify",
        name=target.key,
        title=f"certify {target.id.title}",
        seconds=scans.n_cases * seconds,
        disk=0,
        pieces=len(scans),
        finished=lambda: setup.folder.numbers(*folder),
        open=lambda: _open(setup, target),
    )


def certified_scans(setup: Setup, target: StudyNetwork) -> Chunks:
    """The cases of a target that are certified, scan by scan; none if the study does not ask for it."""
    if setup.study.certificates is None:
        return Chunks(())
    every = sorted(setup.cases, key=lambda case: (case.patient_id, case.scan_id, case.position, case.case_id))
    chosen = evenly_spaced(every, setup.study.certificates.cases or len(every))
    own = {case.case_id for case in setup.fold(target).cases}
    scans: dict[str, list[Case]] = {}
    for case in chosen:
        if case.case_id in own:
            scans.setdefault(case.scan_id, []).append(case)
    return Chunks(tuple(tuple(scan) for scan in scans.values()))


def certified_name(setup: Setup, target: StudyNetwork) -> str:
    """Name of the folder of a target's certificates: a hash of everything that they depend on."""
    recipe = {
        "data": setup.dataset.fingerprint,
        "cases": certified_scans(setup, target).digest,
        "asked": _asked(setup).model_dump(mode="json", exclude={"cases"}),
        "seed": setup.study.seed,
        "revision": REVISION,
    }
    return f"certificates--{digest(recipe)}"


def rows_folder(setup: Setup, target: StudyNetwork) -> Parts:
    """Folder of a target's certificates, a file for each scan."""
    table = CERTIFICATES[setup.study.task]
    return (*target_folder(target, table), certified_name(setup, target))


def _timing_folder(setup: Setup, target: StudyNetwork) -> Parts:
    """Folder of the times that its scans took."""
    *folder, name = rows_folder(setup, target)
    return (*folder, "timing", name)


def certifying_times(setup: Setup) -> list[Parts]:
    """Paths of the times of certification, as far as they are known."""
    if setup.study.certificates is None:
        return []
    folders = [_timing_folder(setup, target) for target in setup.targets]
    return [(*folder, name) for folder in folders for name in setup.folder.names(*folder)]


def certificate_parts(setup: Setup) -> list[Parts]:
    """Paths of all rows that certification leaves."""
    return [
        (*rows_folder(setup, target), part_name(piece))
        for target in setup.targets
        for piece in range(len(certified_scans(setup, target)))
    ]


def _open(setup: Setup, target: StudyNetwork) -> Do:
    """Load a target, and record whose weights the certificates are of.

    Raises:
        RunError: Finished certificates are of other weights.
    """
    table, scans, folder = (
        CERTIFICATES[setup.study.task],
        certified_scans(setup, target),
        rows_folder(setup, target),
    )
    name, weights = target.id.folder, setup.weights_sha256(target)
    remember_weights(setup.folder, weights, name, *target_folder(target, table))
    shared = {"target": target.id.name, "target_seed": target.id.seed, "fold": target.id.fold}

    def work(piece: int, progress: OnProgress) -> None:
        scan = scans[piece]
        origin = shared | {"perturbation": "certificates", "source": "", "source_seed": 0, "role": "clean"}
        with timed(setup.folder, _timing_folder(setup, target), "certify", origin, piece, len(scan)):
            clean = stack(setup.dataset, scan, setup.device)
            said: list[list[Statement]] = []
            for place in range(len(scan)):
                said.append(list(_statements(setup, target, clean.part([place]))))
                progress((place + 1) / len(scan), "")
        rows = (
            _scan_rows(setup.dataset, clean, said) if setup.study.task.has_maps else _image_rows(clean, said)
        )
        write_rows(setup.folder, frame_of(table, [shared | row for row in rows]), *folder, part_name(piece))

    return work


def _statements(setup: Setup, target: StudyNetwork, one: Batch) -> Iterator[Statement]:
    """Everything that is said of a single image."""
    asked, (case,), image, labels = _asked(setup), *one
    told, has_maps = setup.told(target, one.cases), setup.study.task.has_maps

    def ask(images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *labelspace"]:
        def part(place: slice) -> Tensor:
            asked_of = images[place]
            return output_of(told, asked_of, name=target.id.folder, cases=[case] * len(asked_of))

        return torch.cat([logits for _, logits in setup.limit.parts(len(images), part)])

    def rng(use: str) -> np.random.Generator:
        return generator(setup.study.seed, "certificates", use, case.case_id)

    found = certify(
        ask,
        image,
        sigma=asked.sigma,
        draws=asked.draws,
        selection=asked.selection,
        alpha=asked.alpha,
        radii=asked.tested if has_maps else None,
        rngs=[rng("draws")],
    )
    certain = found.labels != ABSTAINED
    yield Statement("network", 0.0, ask(image).max(1).indices)
    yield Statement("smoothed", 0.0, found.answers)
    for radius in asked.tested:
        answers = torch.where(certain & (found.radii >= radius), found.labels, ABSTAINED)
        yield Statement("certified", radius, answers, None if has_maps else float(found.radii))
    if not asked.attack_steps or not setup.has_gradient(target):
        return
    smoothed = Smoothed(told, image, sigma=asked.sigma, draws=asked.attack_draws, rng=rng("attack"))
    radii = torch.where(certain, found.radii, torch.nan).cpu().numpy()[0]
    for radius in asked.tested[1:]:
        attacked = pgd(
            smoothed, image, labels, eps=radius, norm="2", steps=asked.attack_steps, rngs=[rng("start")]
        )
        counts = votes(ask, attacked, sigma=asked.sigma, draws=asked.selection, rng=rng("attacked"))
        of_certified = np.take_along_axis(counts, found.labels.clamp_min(0).cpu().numpy(), 0)[0]
        contradicted = is_contradicted(
            of_certified,
            radii,
            asked.selection,
            size=float((attacked - image).norm()),
            sigma=asked.sigma,
            alpha=asked.alpha,
        )
        answers = torch.from_numpy(counts.argmax(0)[None]).to(image.device)
        yield Statement("attacked", radius, answers, contradicted=contradicted)


def _image_rows(clean: Batch, said: list[list[Statement]]) -> list[dict[str, Any]]:
    """A row for each statement about an image."""
    return [
        {
            "condition": each.condition,
            "radius": each.radius,
            "case_id": case.case_id,
            "scan_id": case.scan_id,
            "patient_id": case.patient_id,
            "label": int(label),
            "prediction": int(each.answers),
            "largest_radius": each.largest_radius,
            "contradicted": each.contradicted,
        }
        for case, label, of_case in zip(clean.cases, clean.labels, said, strict=True)
        for each in of_case
    ]


def _scan_rows(dataset: Dataset, clean: Batch, said: list[list[Statement]]) -> list[dict[str, Any]]:
    """A row for each statement and structure, of all cases of a scan together.

    What is claimed of a structure is the worst case: a pixel without an answer is predicted to be the
    structure where it is none, and to be something else where it is.
    """
    rows = []
    for alike in zip(*said, strict=True):  # one statement about each case
        answers = torch.cat([each.answers for each in alike])
        everywhere = _counts(dataset, clean.labels, answers.clamp_min(0))
        answered = _counts(
            dataset, clean.labels.masked_fill(answers == ABSTAINED, UNKNOWN), answers.clamp_min(0)
        )
        known = clean.labels != UNKNOWN
        shared = {
            "condition": alike[0].condition,
            "radius": alike[0].radius,
            "scan_id": clean.cases[0].scan_id,
            "patient_id": clean.cases[0].patient_id,
            "n_pixels": int(known.sum()),
            "n_abstained": int((known & (answers == ABSTAINED)).sum()),
            "n_cases": len(alike),
            "n_contradicted": sum(each.contradicted for each in alike),
        }
        for structure, (n_true, _, _), (n_answered, n_pred, n_both) in zip(
            dataset.structures, everywhere, answered, strict=True
        ):
            open_outside = shared["n_abstained"] - (n_true - n_answered)
            counts = {"n_true": n_true, "n_pred": n_pred + open_outside, "n_both": n_both}
            rows.append({**shared, "structure": structure, **counts, "n_answered": n_answered})
    return rows


def _counts(dataset: Dataset, labels: Tensor, answers: Tensor) -> list[list[int]]:
    """Pixels of each structure in the truth, in the answers, and in both, summed over cases."""
    counts: list[list[int]] = (
        overlap_counts(labels, answers, len(dataset.classes), dataset.members).sum(0).tolist()
    )
    return counts


def _asked(setup: Setup) -> Certificates:
    assert setup.study.certificates is not None
    return setup.study.certificates
