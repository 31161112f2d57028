"""Time the attacks and their peers: `make bench`, or `python benchmarks/run.py --help`.

Prints a table per network and attack. Times are in units: one forward pass and input gradient of the plain
network on the same batch, measured just before and after. Peers attack the plain network; medrobust attacks
it as a study does, prepared once by `medrobust.models.prepare`, and beside that as it is.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from medrobust.metrics.similarity import l2
from medrobust.models import Network
from medrobust.perturbations import (
    Tally,
    alma_prox,
    apgd,
    cospgd,
    dag,
    ddn,
    deepfool,
    fab,
    fgsm,
    fmn,
    mi_fgsm,
    pdpgd,
    saliency_map,
    sea,
    sigma_zero,
    square,
)
from medrobust.perturbations.targets import all_background
from medrobust.rng import generator
from peer_attacks import PEERS
from subjects import BATCH, RECIPES, Subject, subject
from timing import Timed, timed

IMAGES = {
    "deepfool": 16,
    "saliency_map": 8,
    "apgd": 8,
    "fab": 8,
    "square": 8,
    "fmn": 8,
    "ddn": 8,
    "sigma_zero": 8,
    "transfer": 16,
    "alma_prox": 4,
    "pdpgd": 4,
    "cospgd": 4,
    "sea": 4,
}
"""Images for attacks of which some library takes hundreds of passes; all others get the whole batch."""

ART_SHARE = 0.005
"""Of the entries, that ART may change: images that it cannot fool take all of them."""

DAG_STEPS, CLIMB_STEPS, WALK_STEPS, QUERIES = 10, 20, 10, 200
STEPS = {"dag": DAG_STEPS, "cospgd": CLIMB_STEPS}
"""Of attacks that do not count them, or the same for peers."""

DENSE = ("fgsm", "dag", "alma_prox", "pdpgd", "cospgd", "sea")
PER_IMAGE = (
    "fgsm",
    "deepfool",
    "saliency_map",
    "apgd",
    "fab",
    "square",
    "fmn",
    "ddn",
    "sigma_zero",
    "transfer",
)


class Row(NamedTuple):
    """A line of a table: an attack of some library on some network, and the steps that it tells of."""

    name: str
    attack: Callable[[Tally], Tensor]
    tally: Tally


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--attacks", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--images", type=int, default=BATCH, help="at most so many at a time")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the median counts")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="keeps pictures and weights")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--threads", type=int, default=2, help="1 where others work on the machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.networks:
        whole = subject(name, options.folder)
        for attack in options.attacks:
            if attack in (DENSE if whole.labels.ndim > 1 else PER_IMAGE):
                attacked = whole.first(min(options.images, IMAGES.get(attack, BATCH)))
                rows = [row for row in TABLES[attack](attacked) if is_there(row.name, options.without_peers)]
                results = timed(
                    attacked, {row.name: partial(row.attack, row.tally) for row in rows}, options.repeats
                )
                print_table(attack, attacked, rows, results)


def is_there(name: str, without_peers: bool) -> bool:
    """Whether a row can be run."""
    library = name.replace(",", " ").split()[0]
    return library == "medrobust" or (not without_peers and find_spec(library) is not None)


def networks(subject: Subject) -> dict[str, Network]:
    """How medrobust is timed: on the prepared network, and on the one that its peers attack."""
    return {"medrobust": subject.prepared, "medrobust (not prepared)": subject.plain}


def fgsm_rows(subject: Subject) -> Iterator[Row]:
    options = {"eps": 2 / 255}
    for name, network in networks(subject).items():
        yield row(name, fgsm, network, subject, **options)
    for name, peer in PEERS["fgsm"].items() if subject.labels.ndim == 1 else ():
        yield row(name, peer, subject.plain, subject, **options)


def deepfool_rows(subject: Subject) -> Iterator[Row]:
    for name, network in networks(subject).items():
        yield tallied(name, deepfool, network, subject)
    for name, peer in PEERS["deepfool"].items():
        yield row(name, peer, subject.plain, subject)


def saliency_map_rows(subject: Subject) -> Iterator[Row]:
    """ART goes to a given class, with one of its own entries beside each of ours: it changes two at once."""
    images, labels = subject.images, subject.labels
    options = {"preset": "foolbox-0.8", "target": "runner_up"}
    for name, network in networks(subject).items():
        yield tallied(f"{name}, runner-up", saliency_map, network, subject, **options)
    for name, count in {"medrobust": 1, "medrobust, 8 at once": 8}.items():
        options = {"preset": "foolbox-0.8", "entries_per_step": count}
        yield tallied(name, saliency_map, subject.prepared, subject, **options)
    with torch.no_grad():
        goals = subject.plain(images).scatter(1, labels[:, None], -torch.inf).argmax(1)
    for name, peer in PEERS["saliency_map"].items():
        yield row(f"{name}, runner-up", peer, subject.plain, subject, goals=goals, theta=0.1, share=ART_SHARE)


def dag_rows(subject: Subject) -> Iterator[Row]:
    options = {"targets": all_background(subject.labels), "step": 0.5 / 255, "steps": DAG_STEPS}
    for name, network in networks(subject).items():
        yield tallied(name, dag, network, subject, preset="adv-lib", **options)
    for name, peer in PEERS["dag"].items():
        yield row(name, peer, subject.plain, subject, **options)


TRANSFER_STEPS = 5
TRANSFER: dict[str, tuple[object, dict[str, object]]] = {
    "mi": ((), {}),
    "di": ({"di": {"rate": 0.9}}, {}),
    "ti": (["ti"], {"diversity_prob": 0.0}),
    "si_ni": (["si", "ni"], {}),
    "vmi": ({"vmi": {"neighbours": 5}}, {"N": 5}),
    "admix": ({"admix": {"partners": 1}}, {"size": 1}),
    "bsr": ({"bsr": {"copies": 5}}, {"num_scale": 5}),
}
"""Our parts, and options of the library that has the same; the SSM of torchattack knows 224 pixels only."""


def transfer_rows(subject: Subject) -> Iterator[Row]:
    """Of VMI, libraries also take the neighbours of the last step, which nothing uses."""
    options = {"eps": 2 / 255, "steps": TRANSFER_STEPS}
    for part, (transfer, theirs) in TRANSFER.items():
        ours = {"transfer": transfer, "others": subject.images} | options
        yield row(f"medrobust, {part}", mi_fgsm, subject.prepared, subject, **ours)
        if part == "admix":
            theirs = theirs | {"num_classes": subject.plain(subject.images[:1]).shape[1]}
        for library, peer in PEERS[f"transfer {part}"].items():
            yield row(f"{library}, {part}", peer, subject.plain, subject, **theirs, **options)


HELD, LOST = 1 / 25_500, 2 / 255
"""Budgets within which no image, and within which nearly every one, is fooled."""


def apgd_rows(subject: Subject) -> Iterator[Row]:
    """Peers take all steps with all images; by default, ours leave as soon as they are fooled."""
    options = {"eps": LOST, "steps": CLIMB_STEPS}
    for name, network in networks(subject).items():
        yield tallied(name, apgd, network, subject, all_steps=True, **options)
    yield tallied("medrobust, until fooled", apgd, subject.prepared, subject, **options)
    for name, peer in PEERS["apgd"].items():
        yield row(name, peer, subject.plain, subject, **options)


def fab_rows(subject: Subject) -> Iterator[Row]:
    for name, network in networks(subject).items():
        yield tallied(name, fab, network, subject, candidates=None, steps=WALK_STEPS)
    for name, peer in PEERS["fab"].items():
        yield row(name, peer, subject.plain, subject, steps=WALK_STEPS)


def square_rows(subject: Subject) -> Iterator[Row]:
    """Where no image is fooled, and where images leave one after another."""
    for eps, held in {HELD: "none fooled", LOST: "fooled"}.items():
        options = {"eps": eps, "steps": QUERIES}
        for name, network in networks(subject).items():
            yield tallied(f"{name}, {held}", square, network, subject, rescale=False, **options)
        for name, peer in PEERS["square"].items():
            yield row(f"{name}, {held}", peer, subject.plain, subject, **options)


def cospgd_rows(subject: Subject) -> Iterator[Row]:
    options = {"eps": LOST, "steps": CLIMB_STEPS, "step": LOST / 5}
    for name, network in networks(subject).items():
        yield row(name, cospgd, network, subject, **options)
    for name, peer in PEERS["cospgd"].items():
        yield row(name, peer, subject.plain, subject, **options)


def sea_rows(subject: Subject) -> Iterator[Row]:
    """Its authors' code is no package: only the steps stand here, which are those of `apgd`."""
    for name, network in networks(subject).items():
        yield tallied(name, sea, network, subject, eps=LOST / 8, steps=CLIMB_STEPS)


MINIMAL: dict[str, tuple[Callable[..., Tensor], dict[str, object], dict[str, object]]] = {
    "fmn": (fmn, {"norm": "2", "steps": 40}, {"start": "clean"}),
    "ddn": (ddn, {"steps": 40}, {"start": "clean"}),
    "sigma_zero": (sigma_zero, {"steps": 40}, {}),
    "alma_prox": (alma_prox, {"steps": 40}, {"start": "clean"}),
    "pdpgd": (pdpgd, {"steps": 40}, {"start": "clean"}),
}
"""Attacks that take so many steps with every image, what peers are given too, and how we start as they do."""


def minimal_rows(attack: str, subject: Subject) -> Iterator[Row]:
    ours, shared, alike = MINIMAL[attack]
    for name, network in networks(subject).items():
        yield tallied(name, ours, network, subject, **shared, **alike)
    if alike:
        yield tallied("medrobust, from its own start", ours, subject.prepared, subject, **shared)
    for name, peer in PEERS[attack].items():
        yield row(name, peer, subject.plain, subject, **shared)


TABLES: dict[str, Callable[[Subject], Iterator[Row]]] = {
    "fgsm": fgsm_rows,
    "deepfool": deepfool_rows,
    "saliency_map": saliency_map_rows,
    "dag": dag_rows,
    "apgd": apgd_rows,
    "fab": fab_rows,
    "square": square_rows,
    "cospgd": cospgd_rows,
    "sea": sea_rows,
    "transfer": transfer_rows,
    **{name: partial(minimal_rows, name) for name in MINIMAL},
}


def row(
    name: str, attack: Callable[..., Tensor], network: Network, subject: Subject, **options: object
) -> Row:
    return Row(name, lambda tally: attack(network, subject.images, subject.labels, **options), Tally())


def tallied(
    name: str, attack: Callable[..., Tensor], network: Network, subject: Subject, **options: object
) -> Row:
    """A row of an attack that draws and counts."""

    def call(tally: Tally) -> Tensor:
        rngs = [generator(0, "bench", place) for place in range(len(subject.images))]
        return attack(network, subject.images, subject.labels, rngs=rngs, tally=tally, **options)

    return Row(name, call, Tally())


HEADER = (
    "library",
    "units",
    "processor units",
    "units per step",
    "fooled",
    "units per fooled image",
    "median L2",
)


def print_table(attack: str, subject: Subject, rows: list[Row], results: dict[str, Timed]) -> None:
    """Units altogether and per step, the share of fooled images (in segmentation: pixels), their distance."""
    print(f"\n{attack} on {subject.name}, {tuple(subject.images.shape)}\n")
    for line in (
        HEADER,
        ["---"] * len(HEADER),
        *(cells(attack, subject, row, results[row.name]) for row in rows),
    ):
        print("|", " | ".join(line), "|", flush=True)


def cells(attack: str, subject: Subject, row: Row, timed: Timed) -> list[str]:
    with torch.no_grad():
        wrong = subject.plain(timed.images).argmax(1) != subject.labels
    fooled = wrong.float().flatten(1).mean(1) if wrong.ndim > 1 else wrong.float()
    steps = row.tally.steps.float().mean().item() if row.tally.steps is not None else 0.0
    steps = STEPS.get(attack, steps)
    length = l2(subject.images, timed.images)[fooled > 0]
    return [
        row.name,
        f"{timed.units:.3g} ({timed.repetitions}x)",
        f"{timed.processor_units:.3g}",
        f"{timed.units / steps:.2f}" if steps else "",
        f"{fooled.mean():.0%}",
        f"{timed.units / float(fooled.sum()):.3g}" if len(length) else "",
        f"{length.median():.4g}" if len(length) else "",
    ]


if __name__ == "__main__":
    main()
