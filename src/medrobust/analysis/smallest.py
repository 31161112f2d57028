"""How small a change is enough: images fooled against its size, and how far each attack is from the best.

Sizes are those of the images as stored, so that attacks of every kind compare: what fools a network at some
size bounds its smallest perturbation from above. L1 sizes are not stored, and attacks in it have no curve.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float64

from medrobust.analysis.results import Results
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.stats.intervals import ratio

SIZES: Mapping[str, str] = {"inf": "linf", "2": "l2", "0": "l0"}
"""Norms whose sizes are stored, and their columns."""

POINTS = 9
"""Sizes of a curve, from 0 to that at which the attacks together have fooled all images they ever fool."""

BEYOND = 1e-4
"""Fraction by which rounding may take a change beyond its budget."""

KEYS = ("source", "role")
_IMAGE = (*KEYS, "source_seed", "fold", "case_id")

SMALLEST = (
    *("source", "role", "norm", "perturbation", "median_size", "largest_size"),
    *bounded("fooled", "mean_size", "optimality"),
    *("n_images", "n_patients"),
)
CURVE = ("source", "role", "norm", "perturbation", "size", "fooled", "fooled_low", "fooled_high")
BUDGETS = (
    *("source", "role", "norm", "perturbation", "budget"),
    *bounded("fooled", "fooled_by_any", "missed_points"),
    *("n_images", "n_patients"),
)


class Found(NamedTuple):
    """What attacks of one norm found on one network, a row per image that all of the minimal ones attacked.

    Attributes:
        names: The network, role and norm.
        sizes: Of each minimal attack, the size at which it fools an image: 0 if that is wrong anyway,
            infinite where the attack fails.
        best: The smallest of any attack, those with a budget included.
        patients: Number of the patient of each image.
    """

    names: Mapping[str, object]
    sizes: Mapping[str, Float64[np.ndarray, " n"]]
    best: Float64[np.ndarray, " n"]
    patients: np.ndarray

    @property
    def largest(self) -> float:
        """Where the attacks together have fooled all images that they ever fool."""
        return float(self.best[np.isfinite(self.best)].max(initial=0.0))

    def sums(self, values: np.ndarray) -> Float64[np.ndarray, " patients"]:
        """Totals over the images of each patient."""
        return np.bincount(self.patients, values.astype(np.float64))

    @property
    def counts(self) -> Float64[np.ndarray, " patients"]:
        """Images of each patient."""
        return self.sums(np.ones(len(self.best)))


def smallest(results: Results) -> pl.DataFrame:
    """How small the changes of every minimal attack are, on every network that it was crafted on.

    Returns:
        `source, role, norm, perturbation`; `median_size` (null if half of the images are never fooled);
        `largest_size`, at which all attacks of that norm together have fooled all images that they ever fool;
        the share of images `fooled` (wrong ones included); `mean_size`, none counting for more than the
        largest: the area over the curve; `optimality` of the attack, 1 where no other ever needs
        less and 0 where it finds nothing. With bounds over patients; `n_images, n_patients`.

    Source: Cinà et al. 2025, "AttackBench: evaluating gradient-based attacks for adversarial examples".
    """
    confidence, lines = results.settings.confidence, list[Line]()
    for found in _found(results):
        largest, counts = found.largest, found.counts
        best = np.minimum(found.best, largest)
        # What an attack that finds nothing would add to the area, and what this one does not.
        room = found.sums(np.where(best > 0, largest, 0.0) - best)
        for label, sizes in found.sizes.items():
            capped, median = np.minimum(sizes, largest), float(np.median(sizes))
            saved = room - found.sums(capped - best)
            values = {
                "fooled": ratio(found.sums(np.isfinite(sizes)), counts).fraction_interval(confidence),
                "mean_size": ratio(found.sums(capped), counts).interval(confidence).clipped(0, largest),
                "optimality": ratio(saved, room).interval(confidence).clipped(0, 1),
            }
            lines.append(
                {**found.names, "perturbation": label}
                | {"median_size": median if np.isfinite(median) else None, "largest_size": largest}
                | with_bounds(values)
                | {"n_images": len(sizes), "n_patients": len(counts)}
            )
    return frame(lines, *SMALLEST)


def smallest_curve(results: Results) -> pl.DataFrame:
    """Share of images fooled by changes of at most some size.

    Returns:
        `source, role, norm, perturbation, size`, and `fooled` with bounds over patients.
    """
    lines = list[Line]()
    for found in _found(results):
        for label, sizes in found.sizes.items():
            for size in np.linspace(0, found.largest, POINTS):
                share = ratio(found.sums(sizes <= size * (1 + BEYOND)), found.counts)
                values = {"fooled": share.fraction_interval(results.settings.confidence)}
                lines.append(
                    {**found.names, "perturbation": label, "size": float(size), **with_bounds(values)}
                )
    return frame(lines, *CURVE)


def budget_strength(results: Results) -> pl.DataFrame:
    """What every attack with a budget fools, beside the worst of all attacks that stay within that budget.

    Returns:
        `source, role, norm, perturbation, budget`; the share of labels `fooled`, that `fooled_by_any` attack
        of the same norm, image by image, and the difference, `missed_points`; with bounds over patients;
        `n_images, n_patients`. Empty where no network faces two such attacks.
    """
    confidence, lines = results.settings.confidence, list[Line]()
    for norm, column in SIZES.items():
        attacks = [attack for attack in results.attacks if attack.norm == norm]
        rows = _told(results).filter(pl.col("perturbation").is_in([attack.label for attack in attacks]))
        for attack in attacks if len(attacks) > 1 else ():
            for names, own in _by_network(rows.filter(perturbation=attack.label), norm):
                budget = own["strength"].max()
                if attack.minimal or not isinstance(budget, float):
                    continue
                within = rows.filter(pl.col(column) <= budget * (1 + BEYOND) + 1e-9)
                worst = within.group_by(_IMAGE).agg(worst=pl.col("fooled_source").max())
                both = own.join(worst, on=_IMAGE, how="left", nulls_equal=True)
                patients = np.unique(both["patient_id"].to_numpy(), return_inverse=True)[1]
                mine = both["fooled_source"].to_numpy()
                most = np.fmax(mine, both["worst"].to_numpy())
                counts = np.bincount(patients).astype(np.float64)
                shares = {
                    name: ratio(np.bincount(patients, each), counts)
                    for name, each in (("fooled", mine), ("fooled_by_any", most), ("missed", most - mine))
                }
                values = {
                    name: shares[name].fraction_interval(confidence) for name in ("fooled", "fooled_by_any")
                } | {"missed_points": shares["missed"].interval(confidence).clipped(0, 1).scaled(100)}
                lines.append(
                    {**names, "perturbation": attack.label, "budget": budget, **with_bounds(values)}
                    | {"n_images": len(mine), "n_patients": len(counts)}
                )
    return frame(lines, *BUDGETS)


def _found(results: Results) -> Iterator[Found]:
    for norm, column in SIZES.items():
        attacks = {attack.label: attack for attack in results.attacks if attack.norm == norm}
        minimal = [label for label, attack in attacks.items() if attack.minimal]
        rows = _told(results).filter(pl.col("perturbation").is_in([*attacks]))
        for names, own in _by_network(rows.filter(pl.col("perturbation").is_in(minimal)), norm):
            present = [label for label in minimal if label in own["perturbation"]]
            # Attacks that want more of the pixels wrong have that many wrong too.
            share = min(attacks[label].share for label in present)
            every = rows.filter(source=names["source"], role=names["role"])
            sized = every.with_columns(size=_size(column, share))
            wide = sized.pivot("perturbation", index=[*_IMAGE, "patient_id"], values="size")
            wide = wide.drop_nulls(present).sort(_IMAGE)
            if wide.height:
                yield Found(
                    names,
                    {label: wide[label].to_numpy() for label in present},
                    wide.select(pl.min_horizontal(*attacks.keys() & set(wide.columns))).to_numpy()[:, 0],
                    np.unique(wide["patient_id"].to_numpy(), return_inverse=True)[1],
                )


def _told(results: Results) -> pl.DataFrame:
    """The images of which it is known whether they fool their network."""
    return results.crafted.with_columns(pl.col("fooled_source").fill_nan(None)).drop_nulls("fooled_source")


def _size(column: str, share: float) -> pl.Expr:
    """The size at which an image is fooled, as far as an attack tells."""
    fooled = pl.when(pl.col("fooled_source") >= share - 1e-9).then(pl.col(column)).otherwise(np.inf)
    return pl.when(pl.col("already_wrong") >= share - 1e-9).then(0.0).otherwise(fooled)


def _by_network(rows: pl.DataFrame, norm: str) -> Iterator[tuple[dict[str, object], pl.DataFrame]]:
    for key, own in rows.group_by(KEYS, maintain_order=True):
        yield {**dict(zip(KEYS, key, strict=True)), "norm": norm}, own
