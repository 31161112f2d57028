"""What a reader must know before trusting the numbers: attacks and noise that did not do what was asked."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import PurePath

import polars as pl

from medrobust.analysis.certificates import certificate_remarks
from medrobust.analysis.defences import overfitted
from medrobust.analysis.results import Results
from medrobust.analysis.table import frame
from medrobust.analysis.threats import MEAN, STRONGEST, weak_rungs
from medrobust.analysis.transforms import weak_searches
from medrobust.core import Task
from medrobust.data.findings import Severity
from medrobust.errors import Remark

SSIM_TOLERANCE = 0.005
"""Largest accepted distance of the mean SSIM on test cases from that which a budget was solved for."""


FOOLED: Mapping[Task, tuple[str, str]] = {
    Task.CLASSIFICATION: ("fooled_of_right", "no image that it gets right when clean"),
    Task.MULTILABEL: ("fooled", "no finding"),
    Task.SEGMENTATION: ("fooled", "no {pixel}"),
}
"""The column of `success` that is 0 where an attack did nothing, and what it fooled its source on then."""


def remarks(tables: Mapping[str, pl.DataFrame], task: Task, pixels: str = "pixels") -> tuple[Remark, ...]:
    """All warnings of a study.

    Args:
        tables: At least `audit`, `success`, `budgets`, `matching`, `selftests`, `transforms`,
            `threats`, `certificates` and `overfitting`.
        task: What the networks do.
        pixels: What images consist of, see `Results.pixels`.
    """
    return (
        *_wrong_data(tables["audit"]),
        *_harmless(tables["success"], task, pixels),
        *_failed_selftests(tables["selftests"]),
        *_missed_budgets(tables["budgets"]),
        *_missed_matches(tables["matching"]),
        *weak_searches(tables["transforms"]),
        *weak_rungs(tables["threats"]),
        *_unchosen(tables["threats"]),
        *certificate_remarks(tables["certificates"]),
        *overfitted(tables["overfitting"]),
    )


def _wrong_data(audit: pl.DataFrame) -> Iterable[Remark]:
    """Errors that the audit found and a run does not stop at, such as copies on both sides of the split."""
    for row in audit.filter(severity=str(Severity.ERROR)).iter_rows(named=True):
        more = f" And {row['n_times'] - 1} more like it." if row["n_times"] > 1 else ""
        yield Remark("data", f"The data: {row['kind']}. {row['seen']}{more} {row['what_to_do']}")


def _harmless(success: pl.DataFrame, task: Task, pixels: str) -> Iterable[Remark]:
    """Attacks that do not even fool their own source, so that resisting them proves nothing."""
    fooled, whom = FOOLED[task]
    whom = whom.format(pixel=pixels.removesuffix("s"))
    harmless = success.filter(pl.col(fooled).fill_null(0) == 0)
    for (attack,), rows in harmless.group_by("perturbation", maintain_order=True):
        yield Remark(
            "success",
            f"{attack} fooled {_networks(rows)} on {whom}: its cells say nothing about the targets.",
        )


def _failed_selftests(selftests: pl.DataFrame) -> Iterable[Remark]:
    """Attacks that are weaker than they should be, or whose source gives them no gradient to follow."""
    failed = selftests.filter(~pl.col("passed"))
    for (attack, source), rows in failed.group_by("perturbation", "source", maintain_order=True):
        seen = " ".join(dict.fromkeys(f"{row['check']}: {row['seen']}" for row in rows.iter_rows(named=True)))
        yield Remark("selftests", f"{attack} fails its self-tests on {source}. {seen}")


def _missed_budgets(budgets: pl.DataFrame) -> Iterable[Remark]:
    gap = (pl.col("ssim_reached") - pl.col("ssim_wanted")).abs()
    missed = budgets.filter(gap > SSIM_TOLERANCE)
    for (attack,), rows in missed.group_by("perturbation", maintain_order=True):
        reached = sorted({f"{value:.4f}" for value in rows["ssim_reached"]})
        span = reached[0] if len(reached) == 1 else f"{reached[0]} to {reached[-1]}"
        parameter, wanted = rows["parameter"][0], rows["ssim_wanted"][0]
        yield Remark(
            "success",
            f"{attack}: {parameter}, solved on validation cases of {_networks(rows)} for an SSIM of "
            f"{wanted:g}, gives {span} on the test cases, more than {SSIM_TOLERANCE} off.",
        )


def _missed_matches(matching: pl.DataFrame) -> Iterable[Remark]:
    unmatched = matching.filter(pl.col("n_missed") > 0)
    for (noise,), rows in unmatched.group_by("perturbation", maintain_order=True):
        missed, images = rows["n_missed"].sum(), rows["n_images"].sum()
        yield Remark(
            "noise",
            f"{noise} ({_networks(rows)}): for {missed} of {images} images no strength matches the SSIM of "
            "the attack within the tolerance.",
        )


def _unchosen(threats: pl.DataFrame) -> Iterable[Remark]:
    """A ladder whose strongest transferred attack was not chosen, as no validation cases gave a score."""
    if MEAN in threats["rung"] and STRONGEST not in threats["rung"]:
        yield Remark(
            "ladder",
            "The strongest transferred attack on each network is not known: it is chosen on validation "
            "cases, of which the split, or `threats: {validation_cases: ...}`, leaves none that give a "
            "score.",
        )


def _networks(rows: pl.DataFrame) -> str:
    """The sources; targets that were attacked themselves are last, and marked."""
    sources = rows.sort("role", maintain_order=True).select("source", "role").iter_rows()
    names = (f"{source} (white-box)" if role == "whitebox" else str(source) for source, role in sources)
    return ", ".join(dict.fromkeys(names))


AUDIT = ("severity", "kind", "n_times", "seen", "what_to_do")


def audit_table(results: Results) -> pl.DataFrame:
    """Findings of `audit.json`, most severe first; empty without any, or without an audit.

    Returns:
        `severity` (error, warning, note), `kind`, `n_times`; `seen`: the first of its kind, files without
        their folders; `what_to_do`.
    """
    findings = [] if results.audit is None else results.audit["findings"]
    lines = []
    for (severity, kind), group in groupby(findings, lambda each: (each["severity"], each["kind"])):
        first, *more = group
        seen = str(first["says"])
        for file in first["files"]:
            seen = seen.replace(file, PurePath(file).name)
        values = (severity, kind, 1 + len(more), seen, first["advice"])
        lines.append(dict(zip(AUDIT, values, strict=True)))
    return frame(lines, *AUDIT)


def audit_fact(results: Results) -> str:
    """Whether the data were audited, and how much was found in how many files."""
    if results.audit is None:
        generated = results.record["data"]["phantom"]
        return "none: generated data have no files" if generated else "none: the files were not examined"
    found = results.audit["counts"]
    counts = (f"{found[name]} {name}{'' if found[name] == 1 else 's'}" for name in map(str, Severity))
    return f"{', '.join(counts)} in {results.audit['looked_at']}"
