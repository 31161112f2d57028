"""Where noise and attacks move images in a network's feature space: the paper's Fig. 3, and numbers for it.

The picture is a t-SNE, whose distances mean nothing by themselves; the numbers are from the feature space.
"""

# scikit-learn has no annotations.
# mypy: disable-error-code="no-untyped-call"

import math

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from medrobust.analysis.scores import CLEAN, matrix_of
from medrobust.stats.intervals import Estimate, Ratio, mean

COMPONENTS = 50
PERPLEXITY = 30.0
NEIGHBOURS = 10


def of_target(embeddings: pl.DataFrame, target: str, attack: str, noise: str) -> pl.DataFrame:
    """The rows that a picture of one network compares.

    Args:
        embeddings: Rows of `results/embeddings.parquet`.
        target: The network whose features are shown.
        attack: The attack, as crafted on the surrogate of the target's own name, or else on another.
        noise: The noise matched to it.

    Returns:
        Clean, noisy and attacked rows of the same cases, of the first seeds and fold, sorted by perturbation
        and case.
    """
    rows = embeddings.filter(pl.col("target") == target, pl.col("perturbation").is_in([CLEAN, noise, attack]))
    sources = rows.filter(pl.col("source") != "")["source"].unique().sort()
    source = target if target in sources else next(iter(sources), "")
    first = pl.col("target_seed", "source_seed", "fold").min().over("perturbation")
    rows = rows.filter((pl.col("perturbation") == CLEAN) | (pl.col("source") == source)).filter(
        pl.all_horizontal(pl.col("target_seed", "source_seed", "fold").eq_missing(first))
    )
    complete = pl.col("perturbation").n_unique().over("case_id") == 3
    return rows.filter(complete).sort("perturbation", "case_id")


def compared_pair(embeddings: pl.DataFrame) -> tuple[str, str] | None:
    """The attack that was embedded and its matched noise; None if there is no such pair."""
    names = embeddings["perturbation"].unique().sort().to_list()
    for noise in names:
        attack = noise.partition("@")[2]
        if attack in names:
            return attack, noise
    return None


def frequent_classes(embeddings: pl.DataFrame, count: int = 3) -> list[int]:
    """The classes with the most clean cases, in the order of their index; ties go to the lower index."""
    cases = embeddings.filter(pl.col("perturbation") == CLEAN).group_by("label").len()
    return cases.sort(["len", "label"], descending=[True, False])["label"].head(count).sort().to_list()


def joint_tsne(embeddings: pl.DataFrame, *, seed: int, perplexity: float = PERPLEXITY) -> pl.DataFrame:
    """One t-SNE of all rows together, so that all its parts can be compared.

    Args:
        embeddings: `embedding` holds a feature vector per row; at least 5 rows.
        seed: Of the t-SNE.
        perplexity: Lowered to a third of the rows if there are few.

    Returns:
        The rows, with `x` and `y` in place of `embedding`.

    Raises:
        ValueError: There are fewer than 5 rows, or nothing to spread over a plane.
    """
    if embeddings.height < 5:
        raise ValueError(f"joint_tsne needs at least 5 rows; got {embeddings.height}.")
    features = matrix_of(embeddings["embedding"])
    varying = int((np.ptp(features, axis=0) > 0).sum())
    if varying < 2:
        raise ValueError(f"a plane needs at least two features that vary between images; got {varying}")
    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, svd_solver="full").fit_transform(features)
    with threadpool_limits(1):  # one thread: the same picture every time
        place = TSNE(
            perplexity=min(perplexity, (len(reduced) - 1) / 3),
            init="pca",
            learning_rate="auto",
            random_state=seed % 2**32,
            n_jobs=1,
        ).fit_transform(reduced)
    columns = [pl.Series(name, place[:, axis].astype(np.float64)) for axis, name in enumerate("xy")]
    return embeddings.drop("embedding").with_columns(columns)


def displacement_table(
    rows: pl.DataFrame, *, attack: str, noise: str, confidence: float = 0.95
) -> pl.DataFrame:
    """How far attack and noise move images, and among which neighbours they then lie.

    Args:
        rows: From `of_target`.
        attack: Name of the attack.
        noise: Name of the noise matched to it.
        confidence: Of the intervals over patients.

    Returns:
        `measure, perturbation, value, low, high, n_cases, n_patients`. The displacement ratio attack / noise
        is a geometric mean; cases that one of the two did not move have none and are left out of `n_cases`.
        Same-class neighbours: the fraction of the image's class among the 10 clean images nearest to it,
        without its own clean version. Bounds are null where there is no interval.
    """
    of = {
        name: rows.filter(pl.col("perturbation") == name).sort("case_id") for name in (CLEAN, noise, attack)
    }
    patients = of[CLEAN]["patient_id"].to_numpy()
    labels = of[CLEAN]["label"].to_numpy()
    features = {name: matrix_of(each["embedding"]) for name, each in of.items()}
    moved = {name: np.linalg.norm(features[name] - features[CLEAN], axis=1) for name in (noise, attack)}
    both = (moved[noise] > 0) & (moved[attack] > 0)
    ratio = np.log(moved[attack][both] / moved[noise][both])
    moves = _mean_of_patients(ratio, patients[both])
    geometric = Estimate(*map(math.exp, moves.interval(confidence)))
    lines = [_line("displacement ratio", f"{attack} / {noise}", geometric, ratio, moves)]
    for name in (CLEAN, noise, attack):
        fraction = same_class_fraction(features[name], features[CLEAN], labels)
        of_patients = _mean_of_patients(fraction, patients)
        interval = of_patients.fraction_interval(confidence)
        lines.append(_line("same-class neighbours", name, interval, fraction, of_patients))
    return pl.DataFrame(lines, orient="row").fill_nan(None)


def same_class_fraction(
    queries: Float[np.ndarray, "n d"], clean: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Fraction of each query's nearest clean neighbours that have its label.

    Args:
        queries: Features of the (perturbed) images; row i is a version of clean image i.
        clean: Features of the clean images; row i is never a neighbour of query i.
        labels: Class of each image.

    Returns:
        In [0, 1], over 10 neighbours, or all others if there are fewer; NaN for a single image.
    """
    count = min(NEIGHBOURS, len(clean) - 1)
    if count == 0:
        return np.full(len(clean), np.nan)
    index = NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(clean)
    nearest = index.kneighbors(queries, return_distance=False)
    own: Bool[np.ndarray, "n k"] = nearest == np.arange(len(clean))[:, None]
    others_first = np.argsort(own, axis=1, kind="stable")[:, :count]
    neighbours = np.take_along_axis(nearest, others_first, axis=1)
    return np.asarray((labels[neighbours] == labels[:, None]).mean(1))


def _mean_of_patients(values: Float[np.ndarray, "n"], patients: np.ndarray) -> Ratio:
    """Mean over the means of patients."""
    every = pl.DataFrame({"patient": patients, "value": values})
    return mean(every.group_by("patient", maintain_order=True).mean()["value"].to_numpy())


def _line(
    measure: str, perturbation: str, interval: Estimate, values: Float[np.ndarray, "n"], of_patients: Ratio
) -> dict[str, object]:
    counts = {"n_cases": len(values), "n_patients": len(of_patients.linear)}
    return {"measure": measure, "perturbation": perturbation, **interval._asdict(), **counts}
