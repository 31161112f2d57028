"""Several findings per image: every score is taken finding by finding."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import made_rows
from medrobust.analysis import classes
from medrobust.analysis.export import all_tables
from medrobust.analysis.results import Results
from medrobust.analysis.scores import CLEAN, Cell
from medrobust.analysis.verdict import verdict
from medrobust.core import Task
from medrobust.errors import RunError
from medrobust.stats.intervals import mean
from medrobust.storage.schemas import FINDINGS
from medrobust.study.analysis import Attack

FINDINGS_NAMED = ("effusion", "mass", "hernia")
MODELS, ATTACKS = ("one", "two"), ("fgsm", "pgd")
PATIENTS = [f"p{case // 2:02d}" for case in range(60)]


def made(rng: np.random.Generator, truth: np.ndarray, cell: Cell, strength: float) -> pl.DataFrame:
    """Rows of a cell; hernia is never present, and one label is not known."""
    present = 1 / (1 + np.exp(-rng.normal(strength * (truth - 0.5), 1.0)))
    rows = [
        {
            "perturbation": cell.perturbation,
            "source": cell.source,
            "target": cell.target,
            "role": "whitebox" if cell.whitebox else "transfer" if cell.source else "clean",
            "source_seed": 1 if cell.source else 0,
            "target_seed": 0,
            "fold": None,
            "case_id": f"c{case:02d}",
            "scan_id": f"c{case:02d}",
            "patient_id": PATIENTS[case],
            "finding": name,
            "label": int(truth[case, place]),
            "prediction": int(present[case, place] > 0.5),
            "probabilities": [1 - present[case, place], present[case, place]],
        }
        for case in range(len(truth))
        for place, name in enumerate(FINDINGS_NAMED)
        if (case, name) != (7, "mass")
    ]
    return pl.DataFrame(rows, schema=FINDINGS.schema, orient="row")


@pytest.fixture(scope="module")
def results() -> Results:
    rng = np.random.default_rng(0)
    truth = (rng.random((60, 3)) < [0.4, 0.3, 0.0]).astype(int)
    grid = made_rows.grid(MODELS, ATTACKS, ["gaussian"])
    strengths = {CLEAN: 3.0, "fgsm": 1.0, "pgd": 0.5}
    rows = [made(rng, truth, cell, strengths.get(cell.perturbation, 2.8)) for cell in grid]
    return Results(
        task=Task.MULTILABEL,
        unit="patient",
        classes=FINDINGS_NAMED,
        models=MODELS,
        attacks=tuple(Attack(label) for label in ATTACKS),
        noise=("gaussian",),
        crafted=made_rows.crafted(grid, {f"c{case:02d}": PATIENTS[case] for case in range(60)}),
        predictions=pl.concat(rows),
        settings=replace(made_rows.SETTINGS, score=None),
    )


def of(results: Results, cell: Cell, finding: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = results.rows.filter(
        pl.col("role") != "whitebox",
        target=cell.target,
        perturbation=cell.perturbation,
        source=cell.source,
        finding=finding,
    ).sort("case_id")
    present = rows["probabilities"].list.get(1).to_numpy()
    return rows["label"].to_numpy(), present, rows["patient_id"].to_numpy()


def test_auroc_is_the_mean_over_findings_that_have_one(results: Results) -> None:
    assert results.score.name == "auroc"
    for cell in (Cell("one", CLEAN), Cell("one", "fgsm", "two"), Cell("two", "gaussian@pgd", "two")):
        scores = results.panel.cells[cell]
        areas = [roc_auc_score(*of(results, cell, name)[:2]) for name in ("effusion", "mass")]
        assert results.panel.value(scores) == pytest.approx(np.mean(areas), abs=1e-6)
    assert results.panel.floor == 0.5
    assert results.n_cases == 60


def test_its_interval_is_the_jackknife_over_patients(results: Results) -> None:
    cell = Cell("one", "pgd", "two")
    left: dict[str, list[float]] = {}
    for name in ("effusion", "mass"):
        labels, present, patients = of(results, cell, name)
        left[name] = [
            roc_auc_score(labels[patients != p], present[patients != p]) for p in results.panel.patients
        ]
    whole, without = results.panel.value(results.panel.cells[cell]), np.mean([*left.values()], axis=0)
    n = len(without)
    contributions = whole + (n - 1) * (without.mean() - without)
    np.testing.assert_allclose(results.panel.cells[cell].totals, contributions, atol=1e-5)
    expected = mean(contributions).fraction_interval(0.95)
    assert results.panel.estimate(results.panel.cells[cell])[1:] == pytest.approx(expected[1:], abs=1e-4)


def test_accuracy_counts_every_known_finding_and_balanced_accuracy_every_finding_the_same(
    results: Results,
) -> None:
    cell = Cell("two", "fgsm", "one")
    rows = results.rows.filter(target="two", perturbation="fgsm", source="one")
    panel, balanced = results.accuracy_panel, results.balanced_panel
    assert panel.value(panel.cells[cell]) == pytest.approx((rows["label"] == rows["prediction"]).mean())
    assert panel.sizes.sum() == 3 * 60 - 1
    two = [
        balanced_accuracy_score(rows.filter(finding=name)["label"], rows.filter(finding=name)["prediction"])
        for name in ("effusion", "mass")
    ]
    hernia = rows.filter(finding="hernia")
    absent = (hernia["prediction"] == 0).mean()
    # Of hernia only absence can be right: it is one of five answers.
    assert balanced.value(balanced.cells[cell]) == pytest.approx((2 * two[0] + 2 * two[1] + absent) / 5)


def test_the_table_of_findings(results: Results) -> None:
    table = classes.findings(results)
    assert set(table["finding"]) == set(FINDINGS_NAMED)
    clean = table.filter(target="one", perturbation=CLEAN, finding="mass").row(0, named=True)
    labels, present, _ = of(results, Cell("one", CLEAN), "mass")
    assert clean["score"] == pytest.approx(roc_auc_score(labels, present), abs=1e-6)
    assert (clean["n_present"], clean["n_cases"], clean["n_patients"]) == (labels.sum(), 59, 30)
    hernia = table.filter(finding="hernia")["score"].fill_nan(None)
    assert hernia.null_count() == len(hernia)
    with pytest.raises(
        RunError, match="Only classification has a class per image; this study is one of mult"
    ):
        classes.classes(results)


def test_tables_and_verdict_are_made(results: Results) -> None:
    conclusion = verdict(results)
    tables = all_tables(results, conclusion)
    assert {"table1", "findings", "balanced", "quality", "transfer_rate"} <= tables.keys()
    assert conclusion.outcome in ("ranked", "not distinguishable")


def test_rows_that_are_missing_are_noticed(results: Results) -> None:
    lost = results.rows.with_row_index("place").filter(pl.col("place") != 5).drop("place")
    with pytest.raises(RunError, match="lacks 1 of 179 rows: case_id"):
        _ = replace(results, predictions=lost).panel


def test_further_scores_are_means_over_findings(results: Results) -> None:
    table = classes.quality_table(results).filter(target="two", perturbation="fgsm", source="one")
    effusion, mass = (of(results, Cell("two", "fgsm", "one"), name) for name in ("effusion", "mass"))
    areas = [roc_auc_score(*each[:2]) for each in (effusion, mass)]  # hernia is in no image
    assert table["macro_auroc"].item() == pytest.approx(np.mean(areas))
    every = [effusion, mass, of(results, Cell("two", "fgsm", "one"), "hernia")]
    squares = [2 * ((present - truth) ** 2).mean() for truth, present, _ in every]
    assert table["brier"].item() == pytest.approx(np.mean(squares))


def test_findings_that_are_turned_are_those_attacked_that_source_and_targets_get_right(
    results: Results,
) -> None:
    about = Attack("fgsm", finding="mass"), Attack("pgd", finding=0)
    already = pl.when(pl.col("case_id") < "c30").then(0.0).otherwise(0.5)
    some = replace(results, attacks=about, crafted=results.crafted.with_columns(already_wrong=already))
    table = classes.transfer_rate(some)
    wrong = pl.col("label") != pl.col("prediction")
    clean = results.rows.filter(wrong, perturbation=CLEAN)
    for label, name in (("fgsm", "mass"), ("pgd", "effusion")):
        lost = clean.filter(finding=name)["case_id"].to_list()
        rows = results.rows.filter(
            pl.col("role") != "whitebox",
            pl.col("case_id") < "c30",
            ~pl.col("case_id").is_in(lost),
            target="one",
            perturbation=label,
            source="two",
            finding=name,
        )
        row = table.filter(target="one", perturbation=label, source="two")
        assert row["n_cases"].item() == rows.height > 5
        assert row["rate"].item() == pytest.approx(rows.select(wrong.mean()).item())
