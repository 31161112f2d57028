import numpy as np
import polars as pl
import pytest

from medrobust.analysis import embedding


def rows(
    perturbation: str,
    features: np.ndarray,
    labels: np.ndarray,
    source: str = "",
    target: str = "a",
    seed: int = 0,
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "target": target,
            "target_seed": seed,
            "perturbation": perturbation,
            "source": source,
            "source_seed": 1 if source else 0,
            "fold": None,
            "case_id": [f"c{index:03d}" for index in range(len(features))],
            "patient_id": [f"p{index // 2:03d}" for index in range(len(features))],
            "label": labels,
            "embedding": features.tolist(),
        },
        schema_overrides={"fold": pl.Int64},
    )


@pytest.fixture
def study() -> pl.DataFrame:
    """Three far classes; noise moves by 1, the attack moves by 4 to where the next class is."""
    draws = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 12)
    centres = 40.0 * np.eye(6)[:3]
    clean = centres[labels] + draws.normal(0, 0.01, (36, 6))
    noise = clean + np.eye(6)[3]
    attacked = clean + 4 * np.eye(6)[4]
    attacked[:6] = centres[1] + draws.normal(0, 0.01, (6, 6))
    return pl.concat(
        [
            rows("clean", clean, labels),
            rows("gaussian@fgsm", noise, labels, "a"),
            rows("fgsm", attacked, labels, "a"),
            rows("fgsm", attacked + 9, labels, "b"),
            rows("clean", clean, labels, target="b"),
            rows("clean", clean + 5, labels, seed=3),
        ]
    )


def of_a(study: pl.DataFrame) -> pl.DataFrame:
    return embedding.of_target(study, "a", "fgsm", "gaussian@fgsm")


def test_the_pair_is_the_attack_and_its_own_noise(study: pl.DataFrame) -> None:
    assert embedding.compared_pair(study) == ("fgsm", "gaussian@fgsm")
    assert embedding.compared_pair(study.filter(pl.col("perturbation") != "gaussian@fgsm")) is None


def test_rows_of_a_target_are_of_its_own_surrogate_and_first_seed(study: pl.DataFrame) -> None:
    kept = of_a(study)
    assert kept.height == 3 * 36
    assert kept["source"].unique().sort().to_list() == ["", "a"]
    assert kept["target_seed"].unique().to_list() == [0]


def test_cases_that_lack_one_of_the_three_are_left_out(study: pl.DataFrame) -> None:
    gone = study.filter((pl.col("perturbation") != "gaussian@fgsm") | (pl.col("case_id") != "c000"))
    assert "c000" not in of_a(gone)["case_id"].to_list()
    assert of_a(gone).height == 3 * 35


def test_numbers_are_those_the_features_were_made_with(study: pl.DataFrame) -> None:
    table = embedding.displacement_table(of_a(study), attack="fgsm", noise="gaussian@fgsm")
    ratio, clean, noise, attack = table.iter_rows(named=True)
    assert ratio["measure"] == "displacement ratio"
    # 30 cases moved by 4, 6 by the distance of two classes; noise by 1
    assert ratio["value"] == pytest.approx((4**30 * (40 * 2**0.5) ** 6) ** (1 / 36), rel=1e-3)
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert (clean["value"], noise["value"]) == (1, 1)
    assert 0.7 < clean["low"] < 1 == clean["high"], "18 patients who are all alike"
    assert attack["high"] <= 1
    assert attack["value"] == pytest.approx(30 / 36)
    assert (attack["n_cases"], attack["n_patients"]) == (36, 18)


def test_a_case_that_did_not_move_has_no_ratio(study: pl.DataFrame) -> None:
    kept = of_a(study)
    still = kept.filter(pl.col("perturbation") == "clean", pl.col("case_id") == "c035")["embedding"][
        0
    ].to_list()
    unmoved = pl.concat(
        [
            kept.filter((pl.col("perturbation") != "fgsm") | (pl.col("case_id") != "c035")),
            kept.filter(pl.col("perturbation") == "fgsm", pl.col("case_id") == "c035").with_columns(
                embedding=pl.lit(pl.Series([still]))
            ),
        ]
    )
    table = embedding.displacement_table(unmoved, attack="fgsm", noise="gaussian@fgsm")
    assert table["n_cases"].to_list() == [35, 36, 36, 36]

    assert np.isfinite(table["value"].to_numpy()).all()


def test_moves_that_are_all_equal_have_no_interval(study: pl.DataFrame) -> None:
    at = {"clean": 0.0, "gaussian@fgsm": 1.0, "fgsm": 2.0}
    kept = of_a(study)
    alike = kept.with_columns(embedding=pl.Series([[at[name], 0.0] for name in kept["perturbation"]]))
    row = embedding.displacement_table(alike, attack="fgsm", noise="gaussian@fgsm").row(0, named=True)
    assert (row["value"], row["low"], row["high"]) == (pytest.approx(2), None, None)


def test_an_image_is_never_its_own_neighbour() -> None:
    clean = np.array([[0.0], [0.1], [10.0]])
    share = embedding.same_class_fraction(clean, clean, np.array([0, 0, 1]))
    assert share.tolist() == [0.5, 0.5, 0.0]
    assert np.isnan(embedding.same_class_fraction(clean[:1], clean[:1], np.array([0]))).all()


def test_frequent_classes_break_ties_by_index() -> None:
    labels = np.array([4, 4, 2, 2, 1, 1, 3])
    assert embedding.frequent_classes(rows("clean", np.zeros((7, 2)), labels)) == [1, 2, 4]


def test_one_embedding_of_all_rows_is_the_same_every_time(study: pl.DataFrame) -> None:
    kept = of_a(study)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = embedding.joint_tsne(kept, seed=7)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert first.equals(embedding.joint_tsne(kept, seed=7))
    assert first.columns == [*(name for name in kept.columns if name != "embedding"), "x", "y"]
    place = first.filter(pl.col("perturbation") == "clean")
    centres = place.group_by("label").agg(pl.col("x", "y").mean()).select("x", "y").to_numpy()
    spread = place.group_by("label").agg(pl.col("x", "y").std()).select("x", "y").to_numpy().max()
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > 2 * spread


def test_few_rows_lower_the_perplexity_and_fewer_are_refused(study: pl.DataFrame) -> None:
    kept = of_a(study)
    assert embedding.joint_tsne(kept.head(5), seed=0)["x"].is_finite().all()
    with pytest.raises(ValueError, match="at least 5 rows; got 4"):
        embedding.joint_tsne(kept.head(4), seed=0)


@pytest.mark.parametrize("features", [[1.0, 2.0], [1.0]])
def test_features_that_do_not_differ_have_no_plane(study: pl.DataFrame, features: list[float]) -> None:
    alike = study.with_columns(pl.Series("embedding", [features] * study.height, dtype=pl.List(pl.Float32)))
    with pytest.raises(ValueError, match="needs at least two features that vary between images; got 0"):
        embedding.joint_tsne(alike, seed=0)
