"""Scores of groups of patients: by age, sex, site, or whatever else the data say about them."""

from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from medrobust.analysis.results import CONDITIONS, Results
from medrobust.analysis.table import Line, bounded, frame, with_bounds

FEWEST = 5
"""Smaller groups have no score: it would be about individuals, and its interval would say nothing."""

MOST = 20
"""Groups of an attribute; rarer values are one group together."""

AGE = "age"
BANDS = ((40, "under 40"), (60, "40 to 59"), (80, "60 to 79"), (200, "80 and over"))
"""The first age in years above each band. The same in every study, so that reports can be compared."""

UNKNOWN, OTHERS = "unknown", "all others"


def subgroups(results: Results) -> pl.DataFrame:
    """Clean, noise and adversarial score of every network in every group of patients.

    A group holds scans, and a patient is in it with those of its scans that are. "unknown" is a group, too.

    Returns:
        A row per attribute, group and network: `attribute, group, model`, the scores and the paired drop in
        points with intervals over the patients of the group (null in groups of fewer than `FEWEST`),
        `n_patients`, `n_cases`, and a `note` where there are too few. Empty if the data say nothing.
    """
    scores = bounded(*CONDITIONS, "drop_points")
    lines = (
        {"attribute": attribute, "group": group, **line}
        for attribute in _attributes(results)
        for group, scans in _groups(results, attribute)
        for line in _lines(results, scans)
    )
    return frame(lines, "attribute", "group", "model", *scores, "n_patients", "n_cases", "note")


def subgroup_sentences(table: pl.DataFrame, unit: str) -> tuple[str, ...]:
    """What the table shows, a sentence per attribute: where adversarial scores lie furthest apart.

    Not tested: groups hold different patients with different diseases, and none was asked about beforehand.
    """
    return tuple(
        _sentence(str(attribute), rows, unit)
        for (attribute,), rows in table.group_by("attribute", maintain_order=True)
    )


def _attributes(results: Results) -> list[str]:
    if results.attributes is None:
        return []
    names = results.attributes["attribute"].unique().sort().to_list()
    return sorted(names, key=lambda name: ((AGE, "sex", "site", name).index(name), name))


def _groups(results: Results, attribute: str) -> list[tuple[str, list[str]]]:
    """Groups of scans: bands in their order, other values by name, then those that are rare or unknown."""
    assert results.attributes is not None
    known = dict(results.attributes.filter(attribute=attribute).select("scan_id", "value").iter_rows())
    members: dict[str, list[str]] = {}
    for scan in results.rows["scan_id"].unique().sort():
        value = known.get(scan, UNKNOWN)
        members.setdefault(age_band(value) if attribute == AGE else value, []).append(scan)
    unknown = members.pop(UNKNOWN, [])
    common = sorted(members, key=lambda name: (-len(members[name]), name))[:MOST]
    rare = [scan for name in members if name not in common for scan in members[name]]
    bands = [name for _, name in BANDS]
    common.sort(key=lambda name: (bands.index(name) if name in bands else len(bands), name))
    groups = [*((name, members[name]) for name in common), (OTHERS, rare), (UNKNOWN, unknown)]
    return [(name, scans) for name, scans in groups if scans]


def age_band(text: str) -> str:
    """The band of an age in years.

    >>> age_band("39.9"), age_band("40"), age_band("about 40")
    ('under 40', '40 to 59', 'unknown')
    """
    try:
        age = float(text)
    except ValueError:
        return UNKNOWN
    return next((name for end, name in BANDS if 0 <= age < end), UNKNOWN)


def _lines(results: Results, scans: Iterable[str]) -> list[Line]:
    """A row per network."""
    inside = pl.col("scan_id").is_in(list(scans))
    group = replace(results.restricted(inside), crafted=results.crafted.filter(inside))
    n_patients = group.rows["patient_id"].n_unique()
    sizes: Line = {"n_patients": n_patients, "n_cases": group.n_cases}
    lines: list[Line] = []
    for model in results.models:
        if n_patients < FEWEST:
            lines.append({"model": model, **sizes, "note": f"too few {results.unit}s"})
            continue
        conditions = group.conditions(model)
        values = {name: group.panel.estimate(scores) for name, scores in conditions.items()}
        drop = group.panel.drop(conditions["clean"], conditions["adversarial"])
        lines.append({"model": model, **sizes, **with_bounds(values | {"drop_points": drop.scaled(100)})})
    return lines


def _sentence(attribute: str, rows: pl.DataFrame, unit: str) -> str:
    groups = rows.select("group", "n_patients").unique("group", maintain_order=True)
    judged = rows.filter(pl.col("adversarial").is_not_null(), pl.col("group") != UNKNOWN)
    small = groups.filter(pl.col("n_patients") < FEWEST).height
    left_out = ""
    if small:
        left_out = f" {small} of {groups.height} groups have fewer than {FEWEST} {unit}s and no score."
    spread = (
        judged.group_by("model", maintain_order=True)
        .agg(spread=pl.col("adversarial").max() - pl.col("adversarial").min(), n=pl.len())
        .filter(pl.col("n") > 1)
        .sort("spread", descending=True, maintain_order=True)
    )
    if spread.is_empty():
        return f"By {attribute}: nothing to compare, fewer than two groups are large enough.{left_out}"
    model = spread["model"].item(0)
    of_model = judged.filter(model=model).sort("adversarial", maintain_order=True)
    low, high = of_model.row(0, named=True), of_model.row(-1, named=True)
    nearest = low["adversarial_high"], high["adversarial_low"]
    compared = ""
    if None not in nearest:
        compared = f"; these two intervals {'overlap' if nearest[0] >= nearest[1] else 'do not overlap'}"
    return (
        f"By {attribute}: under attack the groups lie furthest apart for {model}, from {_score(low, unit)} "
        f"to {_score(high, unit)}{compared}.{left_out}"
    )


def _score(row: dict[str, object], unit: str) -> str:
    return f"{row['adversarial']:.3f} ({row['group']}, {row['n_patients']} {unit}s)"
