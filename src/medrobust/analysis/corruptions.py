"""How networks hold under corruptions: the score at every severity, means over families, and which differ.

A family is a corruption at several strengths. Every family counts the same in a mean, and in it every
strength. Corruptions that move pixels are compared with clean images judged at the pixels that are left.
Their averages, tests and sentences are apart from those of attacks: to withstand one is not to withstand the
other.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import polars as pl

from medrobust.analysis.comparisons import (
    RANKED,
    TIED,
    above_majority,
    adjusted,
    best_of,
    judged,
    led,
    other_of,
    p_value,
    sign_flip,
)
from medrobust.analysis.results import Results, reference_of
from medrobust.analysis.scores import CLEAN, Cell, Panel, Scores, averaged
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.metrics.corruptions import ALEXNET, Balanced, balanced_errors, weighted_scores
from medrobust.study.analysis import Corruption

ALEXNET_SIDE = 224

LEVELS = (
    *("target", "family", "level", "perturbation", "value", "unit"),
    *("score", "low", "high", *bounded("reference", "drop_points")),
    *("ssim", "n_unreached", "outside_percent", "n_cases", "n_patients"),
)
FAMILIES = (
    *("target", "family", "preset", *bounded("reference"), "score", "low", "high", *bounded("drop_points")),
    *("lowest", "overall", "degradation", "be", "relative_be", "baseline", "trained_on"),
)
SUMMARY = (
    *("model", *bounded("clean", "corrupted", "drop_points"), "worst_family", "worst"),
    *("overall", "degradation", "be", "relative_be", "baseline"),
)
PAIRS = (
    *("first", "second", *bounded("difference"), "p", "p_holm", "verdict", "better"),
    *bounded("drop_difference", "clean_difference"),
)


def corruption_tables(results: Results) -> dict[str, pl.DataFrame]:
    """What is known of corruptions, by the names of the files; all empty without corruptions.

    Returns:
        `corruptions`, from `summary`; `corruption_families`, from `by_family`; `corruption_levels`, from
        `levels`; `corruption_pairs`.
    """
    of_families = by_family(results)
    return {
        "corruptions": summary(results, of_families),
        "corruption_families": of_families,
        "corruption_levels": levels(results),
        "corruption_pairs": corruption_pairs(results),
    }


def levels(results: Results) -> pl.DataFrame:
    """Every network under every corruption at every strength.

    Returns:
        `target, family, level, perturbation`, the level a severity, or 1 - SSIM; `value` and `unit` of the
        strength (null where it is solved image by image); `score` with `low` and `high`; `reference`, the
        clean score on the same pixels, and `drop_points` from it, paired, with their bounds; means over the
        images of `ssim` (null where pixels move) and `outside_percent`, the pixels that show nothing of the
        image; `n_unreached`, images whose SSIM no strength reaches; `n_cases, n_patients`. Sorted by level;
        empty without corruptions.
    """
    if not results.corruptions:
        return frame([], *LEVELS)
    panel, measured = results.corrupted_panel, _measured(results)
    lines: list[Line] = []
    for model in results.models:
        for family, points in families(results).items():
            for point in points:
                scores = panel.cells[Cell(model, point.label)]
                reference = _reference(panel, model, point)
                values = with_bounds(
                    {
                        "score": panel.estimate(scores),
                        "reference": panel.estimate(reference),
                        "drop_points": panel.drop(reference, scores).scaled(100),
                    }
                )
                lines.append(
                    {"target": model, "family": family, "level": point.severity}
                    | {"perturbation": point.label, "value": point.value, "unit": point.unit or None}
                    | {**values, **measured.get(point.label, {})}
                    | {"n_cases": results.n_cases, "n_patients": len(panel.patients)}
                )
    return frame(lines, *LEVELS)


def by_family(results: Results) -> pl.DataFrame:
    """Every network under every family, averaged over its strengths.

    Returns:
        `target, family, preset`; `reference`, `score`, `drop_points` with bounds, as in `levels`; `lowest`
        score at any strength; ROOD-MRI's `overall` and `degradation` (null for a single strength); of whole
        images MedMNIST-C's `be` and `relative_be`, and the `baseline` that they are relative to.
    """
    if not results.corruptions:
        return frame([], *FAMILIES)
    panel, lines = results.corrupted_panel, list[Line]()
    (baseline, errors), in_means = _balanced(results), graded(results)
    for model in results.models:
        for family, points in families(results).items():
            scores = [panel.cells[Cell(model, point.label)] for point in points]
            mean, reference = averaged(scores), averaged([_reference(panel, model, each) for each in points])
            values = {
                "reference": panel.estimate(reference),
                "score": panel.estimate(mean),
                "drop_points": panel.drop(reference, mean).scaled(100),
            }
            numbers = [panel.value(each) for each in scores]
            line = {"target": model, "family": family, "preset": points[0].preset, **with_bounds(values)}
            line["lowest"] = min(numbers, key=lambda each: results.score.sign * each)
            line["trained_on"] = ", ".join(trained_on(points)) or None
            if family in in_means:
                line |= _weighted(results, panel.value(reference), numbers)
                line |= _errors_of(errors[model].of[family], baseline) if errors else {}
            lines.append(line)
    return frame(lines, *FAMILIES)


def summary(results: Results, of_families: pl.DataFrame) -> pl.DataFrame:
    """Every network over all families.

    Args:
        results: The rows of a run.
        of_families: From `by_family`.

    Returns:
        `model`; `clean`; `corrupted`, the mean corruption score, and `drop_points` to it from the clean
        scores on the same pixels, with bounds; the family with the lowest mean score and that score; means
        over families of the columns of `by_family`.
    """
    if not graded(results):
        return frame([], *SUMMARY)
    panel = results.corrupted_panel
    lines: list[Line] = []
    for model in results.models:
        corrupted, reference = corrupted_scores(results, model), _references(results, model)
        values = {
            "clean": panel.estimate(panel.cells[Cell(model, CLEAN)]),
            "corrupted": panel.estimate(corrupted),
            "drop_points": panel.drop(reference, corrupted).scaled(100),
        }
        own = of_families.filter(pl.col("target") == model, pl.col("family").is_in([*graded(results)]))
        worst = own.sort(results.score.sign * pl.col("score"), nulls_last=True).row(0, named=True)
        lines.append(
            {"model": model, **with_bounds(values), "worst_family": worst["family"], "worst": worst["score"]}
            | {name: own[name].mean() for name in ("overall", "degradation", "be", "relative_be")}
            | {"baseline": worst["baseline"]}
        )
    return frame(lines, *SUMMARY)


def corruption_pairs(results: Results) -> pl.DataFrame:
    """All pairs of networks on the mean corruption score: a family of tests of its own.

    Returns:
        `first, second`; `difference` of mean corruption scores (first - second, paired over patients), `p`,
        `p_holm`, `verdict`, `better` (null unless ranked); `drop_difference` in points and
        `clean_difference`.
    """
    if not graded(results):
        return frame([], *PAIRS)
    panel, found = results.corrupted_panel, list(combinations(results.models, 2))
    lines: list[Line] = []
    for first, second in found:
        one, other = corrupted_scores(results, first), corrupted_scores(results, second)
        clean, other_clean = panel.cells[Cell(first, CLEAN)], panel.cells[Cell(second, CLEAN)]
        lost, other_lost = (
            panel.lost(_references(results, model), scores)
            for model, scores in ((first, one), (second, other))
        )
        values = {
            "difference": panel.difference(one, other),
            "drop_difference": panel.difference(lost, other_lost, limit=2.0).scaled(100),
            "clean_difference": panel.difference(clean, other_clean),
        }
        p = sign_flip(results, one, other, first, second, "corruptions", tests=len(found))
        lines.append({"first": first, "second": second, **with_bounds(values), "p": p})
    sound, patients = above_majority(results, panel), len(panel.patients)
    for line, p_holm in zip(lines, adjusted(lines), strict=True):
        both = sound[line["first"]] and sound[line["second"]]
        line |= {"p_holm": p_holm} | judged(results, line, p_holm, patients, len(lines), sound=both)
    return frame(lines, *PAIRS)


def corruption_sentences(
    results: Results, tables: Mapping[str, pl.DataFrame], best_under_attack: str | None
) -> list[str]:
    """What may be said about corruptions, and whether the network that attacks spare most is the same.

    Args:
        results: The rows of a run.
        tables: From `corruption_tables`.
        best_under_attack: The network that is significantly better than every other under attack, if any.
    """
    told = _trained_on(results)
    if not graded(results):
        return told
    pairs, heading = tables["corruption_pairs"], results.score.heading
    means = {row["model"]: row for row in tables["corruptions"].iter_rows(named=True)}
    number = len(graded(results))
    sentences = [
        *told,
        f"Corruptions ({number} {'family' if number == 1 else 'families'}) take "
        + "; ".join(f"{row['drop_points']:.1f} points of {name}" for name, row in means.items())
        + f" on average; the worst is {_worst(means)}.",
    ]
    for row in pairs.filter(verdict=RANKED).iter_rows(named=True):
        value, low, high = led(row, "difference")
        sentences.append(
            f"{row['better']} is more robust than {other_of(row)} to these corruptions: mean {heading}"
            f" {value:+.3f} [{low:+.3f}, {high:+.3f}], {p_value(row['p_holm'])} (Holm, a family of its own);"
            f" on clean images the difference is {led(row, 'clean_difference')[0]:+.3f}."
        )
    tied = pairs.filter(verdict=TIED)
    if tied.height:
        names = "; ".join(f"{row['first']} and {row['second']}" for row in tied.iter_rows(named=True))
        sentences.append(f"Under corruptions these cannot be distinguished: {names}.")
    best = best_of(results.models, pairs)
    if best is not None and best_under_attack is not None:
        sentences.append(
            f"{best} is the most robust to these corruptions and to these attacks."
            if best == best_under_attack
            else f"{best} is the most robust to these corruptions, but {best_under_attack} to these attacks."
        )
    return sentences


def families(results: Results) -> Mapping[str, Sequence[Corruption]]:
    """The corruptions by family, mildest first."""
    found: dict[str, list[Corruption]] = {}
    for each in results.corruptions:
        found.setdefault(each.family, []).append(each)
    return {
        family: sorted(points, key=lambda each: each.severity or 0.0)  # as they are, without any
        for family, points in found.items()
    }


def graded(results: Results) -> Mapping[str, Sequence[Corruption]]:
    """The families that enter means.

    These have severities, which wrong orientations have none of, and no network was trained on them: means
    over other families for each network could not be compared.
    """
    return {
        family: points
        for family, points in families(results).items()
        if all(each.severity is not None for each in points) and not trained_on(points)
    }


def trained_on(points: Sequence[Corruption]) -> tuple[str, ...]:
    """The networks that were trained on a family, at whatever strength."""
    return tuple(dict.fromkeys(name for point in points for name in point.trained_on))


def corrupted_scores(results: Results, model: str, among: Collection[str] | None = None) -> Scores:
    """The mean corruption score of each patient: over strengths, then over families.

    `among` are the families; None: all that enter means.
    """
    panel = results.corrupted_panel
    return _over_families(results, lambda point: panel.cells[Cell(model, point.label)], among)


def baseline_of(results: Results) -> tuple[str, Mapping[str, float]] | None:
    """What balanced errors are relative to: its name, and its errors by family and on "clean" images.

    MedMNIST-C's AlexNet where the data are one of its sets at 224 pixels and all families have its steps;
    else the network that `analysis: {baseline: ...}` names, or the first one. None where images as a whole
    have no labels.
    """
    if results.task.has_maps:
        return None
    data = results.record.get("data", {})
    published = ALEXNET.get(str(data.get("facts", {}).get("dataset", data.get("name"))), {})
    steps = {each.preset or "" for each in results.corruptions}
    if (
        set(data.get("shape", ())) == {ALEXNET_SIDE}
        and graded(results).keys() <= published.keys()
        and all(step.startswith("medmnist-c") for step in steps)
        and results.settings.baseline is None
    ):
        return "MedMNIST-C's AlexNet", published
    name = results.settings.baseline or results.models[0]
    errors, clean = _errors(results, name)
    return name, {family: sum(each) / len(each) for family, each in errors.items()} | {"clean": clean}


def _balanced(results: Results) -> tuple[str, Mapping[str, Balanced]]:
    """The name of the baseline, and the errors of each network relative to it; none of label maps."""
    baseline = baseline_of(results)
    if baseline is None:
        return "", {}
    name, known = baseline
    of_network = {model: _errors(results, model) for model in results.models}
    return name, {
        model: balanced_errors(errors, clean, known, known["clean"])
        for model, (errors, clean) in of_network.items()
    }


def _errors_of(found: tuple[float, float], baseline: str) -> Line:
    return {"be": found[0], "relative_be": found[1], "baseline": baseline}


def _errors(results: Results, model: str) -> tuple[dict[str, list[float]], float]:
    """1 - balanced accuracy of a network at every strength, by family, and on clean images."""
    panel = results.balanced_corrupted_panel
    error = {
        cell.perturbation: 1 - panel.value(panel.cells[cell]) for cell in panel.cells if cell.target == model
    }
    of = {family: [error[each.label] for each in points] for family, points in graded(results).items()}
    return of, error[CLEAN]


def _weighted(results: Results, clean: float, numbers: Sequence[float]) -> dict[str, float]:
    if len(numbers) < 2:
        return {}
    found = weighted_scores(clean, numbers, higher_is_better=results.score.higher_is_better)
    return found._asdict()


def _over_families(
    results: Results, scores: Callable[[Corruption], Scores], among: Collection[str] | None = None
) -> Scores:
    of_families = [
        averaged([scores(point) for point in points])
        for family, points in graded(results).items()
        if among is None or family in among
    ]
    mean = averaged([each for each in of_families if each is not None])
    assert mean is not None
    return mean


def _references(results: Results, model: str) -> Scores:
    return _over_families(results, lambda point: _reference(results.corrupted_panel, model, point))


def _reference(panel: Panel, model: str, point: Corruption) -> Scores:
    """Scores on clean images, at the pixels that a corruption leaves."""
    cell = Cell(model, reference_of(point.label))
    return panel.cells[cell if cell in panel.cells else Cell(model, CLEAN)]


def _measured(results: Results) -> dict[str, dict[str, Any]]:
    """What was measured of the images of each corruption."""
    moving = {each.label for each in results.corruptions if each.moves}
    rows = (
        results.crafted.filter(pl.col("role") == "corruption")
        .group_by("perturbation")
        .agg(ssim=pl.col("ssim").mean(), n_unreached=(pl.col("outcome") == "failed").sum().cast(pl.Int64))
    )
    found = {row.pop("perturbation"): row for row in rows.to_dicts()}
    for label in moving & found.keys():
        found[label] |= {"ssim": None, "outside_percent": outside_percent(results, results.models[0], label)}
    return found


def outside_percent(results: Results, target: str, label: str) -> float | None:
    """Percentage of pixels that have lost their label where pixels moved; None where labels are not counted.

    What has no label then has come from outside.
    """
    if not results.task.has_maps or results.regions:  # which overlap
        return None
    rows = results.every_row.filter(pl.col("target") == target, pl.col("perturbation").is_in([label, CLEAN]))
    one = rows.filter(pl.col("target_seed") == pl.col("target_seed").min())
    counts = dict(one.group_by("perturbation").agg(pl.col("n_true").sum()).iter_rows())
    return float(100 * (1 - counts[label] / counts[CLEAN]))


def _trained_on(results: Results) -> list[str]:
    """Which families are in no mean because networks were trained on them."""
    seen = {family: trained_on(points) for family, points in families(results).items()}
    named = [f"{family} ({', '.join(networks)})" for family, networks in seen.items() if networks]
    if not named:
        return []
    return [
        "Left out of all means and tests over corruptions, for every network, because some were trained on "
        f"them: {'; '.join(named)}."
        + ("" if graded(results) else " None is left, so networks are not compared under corruptions.")
    ]


def _worst(means: Mapping[str, Mapping[str, Any]]) -> str:
    named = {name: row["worst_family"] for name, row in means.items()}
    if len(set(named.values())) == 1:
        return str(next(iter(named.values())))
    return ", ".join(f"{family} for {name}" for name, family in named.items())
