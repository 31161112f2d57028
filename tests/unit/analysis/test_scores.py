"""The primary score is a parameter: built-in ones against their definitions, and somebody's own."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import made_rows
from made_rows import Cell
from medrobust.analysis.export import all_tables, as_json
from medrobust.analysis.tables import table1, table2
from medrobust.analysis.verdict import verdict
from medrobust.core import Task
from medrobust.errors import RunError, StudyError
from medrobust.metrics.catalogue import SCORES, Score
from medrobust.metrics.scores import auroc, balanced_accuracy, iou_of_counts
from medrobust.rng import generator
from medrobust.study.analysis import Settings, primary_score
from medrobust.study.reading import read_study

PATIENTS = {f"p{place:02}": 1 + place % 4 for place in range(14)}


def coin(cell, patient, image):
    chance = (0.9 if cell.perturbation == "clean" else 0.5) - 0.2 * (image % 2)
    return bool(generator(5, *map(str, cell), patient, image).random() < chance)


def judged_by(results, score):
    return replace(results, settings=replace(results.settings, score=score))


@pytest.fixture(scope="module")
def photos():
    results = made_rows.classification(coin, PATIENTS)
    rng = generator(0, "confidence")
    sure = pl.Series(rng.uniform(0.5, 1.0, results.predictions.height))
    first = pl.when(pl.col("prediction") == 0).then(sure).otherwise(1 - sure)
    rows = results.predictions.with_columns(probabilities=pl.concat_list(first, 1 - first))
    return replace(results, predictions=rows)


@pytest.fixture(scope="module")
def brains():
    def counts(cell, scan, structure):
        rng = generator(2, *map(str, cell), scan, structure)
        loss = 5 if cell.perturbation == "clean" else 20 + 3 * "abc".index(cell.target)
        n_true, n_pred = 60, 50 + int(rng.integers(0, 10))
        return n_true, n_pred, n_pred - loss

    scans = {f"p{place}": [f"p{place}-{scan}" for scan in range(1 + place % 2)] for place in range(9)}
    results = made_rows.segmentation(counts, scans)
    within = pl.col("n_both") / pl.col("n_true")
    surfaces = results.overlaps.filter(pl.col("role") != "whitebox").select(
        pl.exclude("n_true", "n_pred", "n_both"),
        n_boundary=pl.lit(100),
        n_within=(100 * within).round().cast(pl.Int64),
        hd95_sum=8 * (1 - within),
        n_both=pl.lit(4),
        n_missed=pl.lit(0),
        n_added=pl.lit(0),
        tolerance=pl.lit(1.0),
        unit=pl.lit("mm"),
    )
    return replace(results, surfaces=surfaces)


def of_cell(results, cell):
    return results.rows.filter(
        target=cell.target, perturbation=cell.perturbation, source=cell.source, role=results_role(cell)
    )


def results_role(cell):
    return "whitebox" if cell.whitebox else "transfer" if cell.source else "clean"


@pytest.mark.parametrize("name", ["balanced_accuracy", "auroc"])
def test_scores_of_photographs_are_those_of_all_images(photos, name):
    results = judged_by(photos, name)
    for cell in [Cell("a", "clean"), Cell("b", "fgsm", "c")]:
        rows = of_cell(photos, cell)
        labels = rows["label"].to_numpy()
        if name == "auroc":
            expected = auroc(labels, np.array(rows["probabilities"].to_list()))
        else:
            expected = balanced_accuracy(labels, rows["prediction"].to_numpy())
        found = results.panel.estimate(results.panel.cells[cell])
        assert found.value == pytest.approx(expected)
        assert 0 <= found.low < found.value < found.high <= 1


def test_balanced_accuracy_has_one_interval_wherever_it_stands(photos):
    as_primary = table2(judged_by(photos, "balanced_accuracy"))
    beside = all_tables(photos, verdict(photos))["balanced"].rows
    both = as_primary.join(beside, on=["target", "perturbation", "source"])
    assert both.height == as_primary.height
    for one, other in (("score", ""), ("low", "_low"), ("high", "_high")):
        np.testing.assert_allclose(both[one], both[f"balanced_accuracy{other}"], rtol=1e-12)


def test_the_error_of_an_area_is_the_jackknife_s(photos):
    results = judged_by(photos, "auroc")
    cell = Cell("a", "fgsm", "b")
    rows = of_cell(photos, cell)

    def area(kept):
        return auroc(kept["label"].to_numpy(), np.array(kept["probabilities"].to_list()))

    left = np.array([area(rows.filter(pl.col("patient_id") != patient)) for patient in PATIENTS])
    n = len(PATIENTS)
    expected = math.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    totals = results.panel.cells[cell].totals
    assert totals.std(ddof=1) / math.sqrt(n) == pytest.approx(expected)


def test_iou_and_nsd_are_means_over_structures_scans_and_patients(brains):
    cell = Cell("a", "dag_a", "b")
    rows = of_cell(brains, cell).filter(pl.col("structure") != "background")
    values = iou_of_counts(*(rows[name].to_numpy() for name in ("n_true", "n_pred", "n_both")))
    means = rows.with_columns(score=pl.Series(values)).group_by("patient_id", "scan_id").agg(pl.mean("score"))
    expected = means.group_by("patient_id").agg(pl.mean("score"))["score"].mean()
    iou = judged_by(brains, "iou").panel
    assert iou.estimate(iou.cells[cell]).value == pytest.approx(expected)
    nsd = judged_by(brains, "nsd").panel
    assert nsd.estimate(nsd.cells[cell]).value == pytest.approx(expected_nsd(brains, cell))


def expected_nsd(brains, cell):
    rows = brains.surfaces.filter(
        pl.col("structure") != "background",
        target=cell.target,
        perturbation=cell.perturbation,
        source=cell.source,
    )
    scans = rows.group_by("patient_id", "scan_id").agg(nsd=(pl.col("n_within") / 100).mean())
    return scans.group_by("patient_id").agg(pl.mean("nsd"))["nsd"].mean()


@pytest.mark.parametrize("score", ["dice", "nsd", "iou", "accuracy", "balanced_accuracy", "auroc"])
def test_a_whole_study_is_judged_by_any_score(photos, brains, score):
    """Every table, the verdict by the score's own name, and a document without functions in it."""
    study = brains if SCORES[score].is_of_maps else photos
    results = judged_by(study, score)
    found = verdict(results)
    tables = all_tables(results, found)
    assert found.pairs["p"].null_count() == 0
    assert tables["table1"].rows["adversarial"].null_count() == 0
    assert tables["noise_control"].rows.height == 6
    assert as_json(results, tables, found)["settings"]["score"] == score
    if "ranked" in found.pairs["verdict"]:
        assert f"mean adversarial {SCORES[score].heading} " in " ".join(found.sentences)


def false_discoveries(n_pred, n_both):
    """Somebody's own: the fraction of what is shown that is not there; undefined where nothing is shown."""
    return np.where(n_pred > 0, 1 - n_both / np.maximum(n_pred, 1), np.nan)


def test_an_own_score_that_is_better_when_lower_turns_everything_round(brains):
    lower = judged_by(brains, Score("fdr", false_discoveries, "FDR", higher_is_better=False))
    upper = judged_by(brains, Score("precision", lambda n_pred, n_both: n_both / n_pred))
    one, other = table1(lower), table1(upper)
    np.testing.assert_allclose(one["clean"], 1 - other["clean"])
    np.testing.assert_allclose(one["drop_points"], other["drop_points"])
    assert verdict(lower).pairs["better"].to_list() == verdict(upper).pairs["better"].to_list() != [None] * 3
    assert verdict(lower).ranking["model"].to_list() == verdict(upper).ranking["model"].to_list()
    assert verdict(lower).best == verdict(upper).best == "a"
    assert "mean adversarial FDR -" in " ".join(verdict(lower).sentences)


def test_what_is_undefined_is_left_out_and_counted(brains):
    def odd(n_true):
        return np.where(np.arange(len(n_true)) % 7 == 0, np.nan, 0.5)

    assert judged_by(brains, odd).panel.undefined == 0
    never = judged_by(brains, Score("never", lambda n_true: np.where(n_true > 0, np.nan, 0.0)))
    assert never.panel.undefined == 9

    def some(labels):
        return np.where(np.arange(len(labels)) < 0, 0.0, np.nan)

    photographs = made_rows.classification(coin, PATIENTS)
    assert judged_by(photographs, some).panel.undefined == len(PATIENTS)


def test_numbers_of_images_are_averaged_within_the_patient(photos):
    def margin(labels, probabilities):
        return probabilities[np.arange(len(labels)), labels]

    results = judged_by(photos, margin)
    rows = of_cell(photos, Cell("a", "clean"))
    values = margin(rows["label"].to_numpy(), np.array(rows["probabilities"].to_list()))
    means = rows.with_columns(score=pl.Series(values)).group_by("patient_id").agg(pl.mean("score"))
    assert results.panel.estimate(results.panel.cells[Cell("a", "clean")]).value == pytest.approx(
        means["score"].mean()
    )
    assert results.score.heading == "margin"


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (
            lambda n_true: n_true[:1],
            r"must return a number for each row \(.* rows here\), but returned int64",
        ),
        (lambda n_true: 1 / 0, "The score .* failed: ZeroDivisionError: division by zero"),
    ],
)
def test_an_own_score_that_breaks_says_so(brains, function, says):
    with pytest.raises(RunError, match=says):
        _ = judged_by(brains, function).panel


def test_surfaces_that_are_missing_are_said(brains):
    with pytest.raises(RunError, match=r"nsd needs results/surfaces.parquet.*Run the study again"):
        _ = judged_by(replace(brains, surfaces=None), "nsd").panel
    some = brains.surfaces.filter(pl.col("perturbation") != "dag_b")
    with pytest.raises(RunError, match=r"nsd needs boundaries, and \d+ rows lack them"):
        _ = judged_by(replace(brains, surfaces=some), "nsd").panel


@pytest.mark.parametrize(
    ("given", "task", "says"),
    [
        ("dise", Task.SEGMENTATION, r"Unknown score 'dise'. Did you mean 'dice'\?"),
        ("auroc", Task.SEGMENTATION, "auroc is a score of classification, and this study is one of segm"),
        (
            "iou",
            Task.CLASSIFICATION,
            "Choose accuracy, balanced_accuracy, auroc, kappa, or load one of your own",
        ),
        ({"load": "nowhere:score"}, Task.SEGMENTATION, "there is no Python module 'nowhere'"),
        ({"lode": "x"}, Task.SEGMENTATION, "must be a name, or `load: package.module:function`"),
        (3, Task.SEGMENTATION, "must be a function of stored rows"),
        (lambda volume: volume, Task.SEGMENTATION, "must be among n_both, n_pred, n_true"),
    ],
)
def test_scores_that_do_not_fit_are_refused(given, task, says):
    with pytest.raises(StudyError, match=says):
        primary_score(given, task)


def study(score):
    return {
        "task": "segmentation",
        "data": {"name": "phantom_brains"},
        "models": [{"name": "net", "architecture": "unet"}],
        "analysis": {"score": score},
    }


def test_a_study_names_its_score_and_is_checked_when_it_is_read():
    assert read_study(study(None)).analysis.score == "dice"
    assert read_study(study("nsd")).analysis.score == "nsd"
    own = read_study(study({"load": "own_scores:precision"})).analysis
    assert primary_score(own.score, Task.SEGMENTATION).columns == ("n_pred", "n_both")
    assert primary_score(false_discoveries, Task.SEGMENTATION).name == "false_discoveries"
    with pytest.raises(StudyError, match="score of classification"):
        read_study(study("accuracy"))
    given = read_study(study(SCORES["iou"].of)).analysis
    assert given.model_dump(mode="json")["score"] == {"load": "medrobust.metrics.scores:iou_of_counts"}


def test_white_box_alone_is_described_and_not_ranked(photos):
    alone = photos.restricted((pl.col("role") == "whitebox") | (pl.col("perturbation") == "clean"))
    alone = replace(alone, attacks=alone.attacks[:1], settings=Settings())
    found = verdict(alone)
    assert found.outcome == "not ranked"
    assert any(sentence.startswith("No attack was transferred") for sentence in found.sentences)
    assert all_tables(alone, found)["whitebox"].rows.height == 3


def test_pairs_are_compared_on_the_sources_that_both_face():
    """Every other network is a source, so that none is faced by all."""
    results = made_rows.classification(lambda c, p, i: c.target == "a" or coin(c, p, i), PATIENTS)
    others = results.restricted((pl.col("source") != pl.col("target")) | (pl.col("role") == "whitebox"))
    assert others.sources == ("a", "b", "c")
    pairs = verdict(others).pairs
    assert pairs["p"].null_count() == 0
    panel = others.panel
    cells = [Cell("a", attack.label, "c") for attack in others.attacks]
    same = [Cell("b", attack.label, "c") for attack in others.attacks]
    expected = panel.difference(panel.mean(cells), panel.mean(same)).value
    assert pairs.filter(first="a", second="b")["difference"].item() == pytest.approx(expected)
    assert verdict(others).ranking["rank_low"].null_count() == 0
