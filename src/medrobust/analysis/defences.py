"""What a defence costs and brings: a defended network beside its twin, which differs in the defence only.

Twins are found from what networks are made from, in one run or in several. Whatever is compared is paired
over the same patients.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import polars as pl

from medrobust.analysis.certificates import certified_cell, certified_panel
from medrobust.analysis.comparisons import Network
from medrobust.analysis.corruptions import corrupted_scores, graded
from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell, Panel, Scores
from medrobust.analysis.table import Line, bounded, frame, shown, with_bounds
from medrobust.core import Role
from medrobust.errors import Remark
from medrobust.running.adversarial import overfitting as overfitting_sentence

PRICE = ("model", "twin", "defence", "condition", "worst_of", "twin_score", "score", *bounded("gain_points"))
OVERFITTING = (
    "model",
    "role",
    "target_seed",
    "fold",
    "method",
    "budget",
    "epoch",
    "one_step",
    "several_steps",
)

CLEAN, NOISE, TRANSFERRED, CORRUPTED, WHITE_BOX, WORST = (
    *("clean", "matched noise", "transferred attacks", "corruptions", "white box", "worst case"),
)
CERTIFIED = "certified"
WORDS = {
    CLEAN: "on clean images",
    NOISE: "under matched noise",
    TRANSFERRED: "under transferred attacks",
    CORRUPTED: "under corruptions",
    WHITE_BOX: "under the worst attack in the white box",
    WORST: "in the worst case of the ladder",
}
"""Conditions in sentences, but for certificates."""


PURIFIER = "purifier"
BEHIND_A_PURIFIER = (
    " Behind a purifier without a gradient attacks follow a substitute, so a gain against attacks on the "
    "network itself is an upper bound: it counts only as far as an attack by scores (square, hundreds of "
    "queries) bears it out."
)


class Twins(NamedTuple):
    """A defended network, its twin without the defence, and the defence in words."""

    defended: Network
    plain: Network
    defence: str


def twins_of(networks: Sequence[Network]) -> list[Twins]:
    """Every defended network beside each network that differs from it in having no defence only."""
    described = [(network, *_described(network)) for network in networks]
    return [
        Twins(one, other, defence)
        for (one, defence, made), (other, no_defence, other_made) in permutations(described, 2)
        if defence and not no_defence and made is not None and made == other_made
    ]


def price(pairs: Iterable[Twins]) -> pl.DataFrame:
    """Price and gain of every defence, under all that both twins were tested with.

    Returns:
        `model`, its `twin` and the `defence`; `condition`: clean, matched noise, transferred attacks (the
        mean that verdicts rest on), white box (of each network the attack on itself that leaves least),
        worst case (the same on the ladder), corruptions (mean over families that neither was trained on),
        what is certified up to each radius; `worst_of`, the attacks of which the one that leaves least stands
        for each network; both scores, and `gain_points` of the defended network, paired,
        with bounds: below 0 on clean images it is the price.
    """
    lines: list[Line] = []
    for defended, plain, defence in pairs:
        names = {"model": defended.name, "twin": plain.name, "defence": defence}
        for condition, panel, one, other, attacks in _conditions(defended, plain):
            sign = 100 * defended.results.score.sign
            gain = {"gain_points": panel.difference(one, other).scaled(sign)}
            scores = {"twin_score": panel.value(other), "score": panel.value(one)}
            of = {"condition": condition, "worst_of": ", ".join(attacks) or None}
            lines.append(names | of | scores | with_bounds(gain))
    return frame(lines, *PRICE)


def price_sentences(table: pl.DataFrame, heading: str) -> list[str]:
    """A sentence for every defended network: what it costs, what it brings, and where the gain is clear.

    Args:
        table: From `price`.
        heading: Name of the score.
    """
    sentences = []
    for (model, twin, defence), rows in table.group_by("model", "twin", "defence", maintain_order=True):
        clean, *others = (
            f"{_points(row)} {_worded(row['condition'])}"
            + (f" ({row['worst_of']})" if row["worst_of"] else "")
            for row in rows.iter_rows(named=True)
        )
        beyond = rows.filter(pl.col("condition") != CLEAN, pl.col("gain_points_low") > 0)["condition"]
        clear = f"clear {', '.join(map(_worded, beyond))}" if beyond.len() else "clear nowhere"
        gained = f"; {', '.join(others)}. The gain is {clear}." if others else "."
        sentences.append(
            f"{model} ({defence}) beside its twin {twin}, gain in points of {heading}: {clean}{gained}"
            + (BEHIND_A_PURIFIER if defence.startswith(PURIFIER) and others else "")
        )
    return sentences


def _worded(condition: str) -> str:
    """A condition in a sentence; that of a certificate is "certified, " and its radius."""
    return WORDS.get(condition) or f"in the score {condition.replace(', ', ' at ')}"


def _points(row: Mapping[str, Any]) -> str:
    low, high = row["gain_points_low"], row["gain_points_high"]
    return f"{row['gain_points']:+.1f}" + ("" if low is None else f" [{low:+.1f}, {high:+.1f}]")


class Condition(NamedTuple):
    """What two networks were tested with.

    Attributes:
        name: Its name.
        panel: A panel of its patients.
        own: Scores of the defended network; None where it was not tested.
        twins: Those of its twin.
        attacks: Attacks of which the worst for each network counts, if any.
    """

    name: str
    panel: Panel
    own: Scores | None
    twins: Scores | None
    attacks: Sequence[str] = ()


def _conditions(defended: Network, plain: Network) -> list[Condition]:
    """What both were tested with."""
    panel = defended.results.panel
    sources = [each.results.common_sources(each.model) for each in (defended, plain)]
    common = [source for source in sources[0] if source in sources[1]]
    noise, plain_noise = (each.results.conditions(each.model)["noise"] for each in (defended, plain))
    found: list[Condition] = [
        Condition(CLEAN, panel, defended.clean, plain.clean),
        Condition(NOISE, panel, noise, plain_noise),
        Condition(TRANSFERRED, panel, defended.attacked(common), plain.attacked(common)),
        Condition(WHITE_BOX, panel, *_of_itself(defended, plain, on_ladder=False)),
        Condition(WORST, panel, *_of_itself(defended, plain, on_ladder=True)),
    ]
    families = [name for name in graded(defended.results) if name in graded(plain.results)]
    if families and defended.results.corrupted_panel.patients == plain.results.corrupted_panel.patients:
        one, other = (corrupted_scores(each.results, each.model, families) for each in (defended, plain))
        found.append(Condition(CORRUPTED, defended.results.corrupted_panel, one, other))
    found += _certified(defended, plain)
    return [each for each in found if each.own is not None and each.twins is not None]


def _of_itself(
    defended: Network, plain: Network, *, on_ladder: bool
) -> tuple[Scores | None, Scores | None, list[str]]:
    """Of each the scores under the attack on itself that leaves least, of those that both faced; which."""
    ladder = defended.results.ladder
    rungs = ladder.attacks if ladder else ()
    labels = [label for label in defended.results.attack_labels if (label in rungs) is on_ladder]
    own, others = (
        {
            label: found
            for label in labels
            if (found := each.results.panel.cells.get(Cell(each.model, label, each.model, whitebox=True)))
        }
        for each in (defended, plain)
    )
    panel, sign = defended.results.panel, defended.results.score.sign

    faced = [label for label in own if label in others]

    def worst(scores: Mapping[str, Scores]) -> Scores | None:
        found = (scores[label] for label in faced)
        return min(found, key=lambda each: sign * panel.value(each), default=None)

    return worst(own), worst(others), faced


def _certified(defended: Network, plain: Network) -> Iterator[Condition]:
    """What is certain of both, smoothed alike, up to every radius."""
    asked = defended.results.smoothing
    panel, other = (certified_panel(each.results) for each in (defended, plain))
    if asked is None or asked != plain.results.smoothing or panel is None or other is None:
        return
    if panel.patients == other.patients:
        for radius in asked["radii"]:
            own, twins = (
                each.cells[certified_cell(network.model, radius)]
                for each, network in ((panel, defended), (other, plain))
            )
            yield Condition(f"{CERTIFIED}, L2 {radius:.3g}", panel, own, twins)


def _described(network: Network) -> tuple[str, Any]:
    """The defence of a network in words, and what else it is made from; None where that is not known."""
    made = next(
        (
            each
            for each in network.results.record.get("networks", {}).values()
            if (each.get("name"), each.get("role")) == (network.model, Role.TARGET)
        ),
        None,
    )
    if made is None or "network" not in made:
        return "", None
    spec, training = dict(made["network"]), dict(made.get("training", {}))
    spec["input"] = dict(spec["input"])
    purifier = spec["input"].pop("purifier", None)
    defences = [f"{PURIFIER} {_purifier(purifier)}"] if purifier else []
    adversarial, augment = training.pop("adversarial", None), training.get("augment")
    if adversarial:
        defences.append(f"trained with {adversarial['method']}, eps {shown(adversarial['eps'], 'setting')}")
    if isinstance(augment, Mapping) and "affine" in augment:
        if augment["corruptions"]:
            families = dict.fromkeys(each.get("name", each.get("load")) for each in augment["corruptions"])
            defences.append(f"trained on {', '.join(map(str, families))}")
        if augment["gaussian"]:
            defences.append(f"trained on Gaussian noise of {shown(augment['gaussian'])}")
        training["augment"] = augment["affine"]
    rest = {name: made.get(name) for name in ("data", "patients")}
    return "; ".join(defences), (spec, training, rest)


def _purifier(given: Mapping[str, Any]) -> str:
    hidden = ("name", "load", "revision", "code")
    settings = [f"{key} {shown(value, 'setting')}" for key, value in given.items() if key not in hidden]
    return ", ".join([str(given.get("name", given.get("load"))), *settings])


def overfitting(results: Results) -> pl.DataFrame:
    """How each adversarially trained network, as it is used, held under one step and under several.

    Returns:
        `model`, its `role`, `target_seed` (that of its training) and `fold`; `method` and `budget`; the
        `epoch` whose weights are kept; scores of a few validation cases under FGSM and under PGD.
    """
    lines: list[Line] = []
    for folder, card in results.cards.items():
        if how := card["identity"]["regime"].get("adversarial"):
            made = results.record["networks"][folder]
            lines.append(
                {"model": made["name"], "role": made["role"], "target_seed": made["seed"]}
                | {"fold": made["fold"], "method": how["method"], "budget": how["eps"]}
                | {"epoch": card["best_epoch"]}
                | {name: card.get(name) for name in ("one_step", "several_steps")}
            )
    return frame(lines, *OVERFITTING)


def overfitted(table: pl.DataFrame) -> Iterable[Remark]:
    """Networks that have learned to answer a single step only (catastrophic overfitting).

    Args:
        table: From `overfitting`.
    """
    for row in table.iter_rows(named=True):
        says = overfitting_sentence(row["method"], row["one_step"], row["several_steps"])
        if says is not None:
            yield Remark("price", f"{row['model']} ({row['role']}, seed {row['target_seed']}) {says}")
