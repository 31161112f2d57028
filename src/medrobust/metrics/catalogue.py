"""The scores that networks can be judged by: the primary score of a study is one of these, or one's own.

A score is a function of stored rows. The names of its parameters say which arrays it receives:

Segmentation, for every structure in every scan, summed over the evaluated slices:
    n_true, n_pred, n_both      pixels in the truth, in the prediction, in both
or, where boundaries are measured:
    n_boundary, n_within        boundary pixels of both maps, and those within the tolerance of the other
    hd95_sum                    HD95 added up over the cases that have the structure in both maps
    n_both, n_missed, n_added   cases with the structure in both maps, in truth only, in prediction only
It returns a value for every structure. Structures are averaged within the scan, scans within the patient.

Classification, for every image:
    labels, predictions         true and predicted class
    probabilities               of each class, of shape `n classes`
It returns a value for every image (booleans are right or wrong, and every image counts; numbers are averaged
within the patient), or one number for all images, such as an area under a curve.

Several findings of an image are a classification each, with the classes absent (0) and present (1): every
score of classification is one of theirs too. One number for all images is taken finding by finding, and
averaged over the findings that have one.

NaN is undefined: left out of every mean, and counted.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from medrobust.catalogue import Catalogue
from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.metrics.scores import (
    Labels,
    Sums,
    auroc,
    auroc_swaps,
    auroc_without,
    dice_of_counts,
    iou_of_counts,
    kappa_swaps,
    nsd_of_sums,
    quadratic_kappa,
)

OVERLAPS = frozenset({"n_true", "n_pred", "n_both"})
SURFACES = frozenset({"n_boundary", "n_within", "hd95_sum", "n_both", "n_missed", "n_added"})
PREDICTIONS = frozenset({"labels", "predictions", "probabilities"})


@dataclass(frozen=True)
class Score:
    """A score and what must be known to judge by it.

    Attributes:
        name: Its name in a study.
        of: The function of stored rows; its parameters are names of columns (see above).
        heading: Its name in tables and sentences; by default `name` in words.
        bounds: The lowest and the highest value. If both are finite, intervals are those of a fraction of
            this range, else t.
        higher_is_better: Whether networks with a higher score are the better ones.
        balanced: Of right-or-wrong outcomes: every class counts the same, however many images it has.
        without: A faster way to what `of` gives once each patient is left out: it takes the same arrays, and
            `patients`, the number of each image's patient, from 0 on. None: `of` is asked again for each.
        swaps: Of one number for all images, the differences between two networks that swap answers within
            patients: it takes the same arrays, that of answers also of the `other` network, and returns a
            function of the signs of the patients. None: signs of the patients' contributions are flipped.
        summary: What it is, after "the score is"; by default the first line of the function's docstring.
    """

    name: str
    of: Callable[..., Any]
    heading: str = ""
    bounds: tuple[float, float] = (0.0, 1.0)
    higher_is_better: bool = True
    balanced: bool = False
    without: Callable[..., Any] | None = None
    swaps: Callable[..., Any] | None = None
    summary: str = ""

    def __post_init__(self) -> None:
        wanted = set(self.columns)
        if not wanted or not any(wanted <= known for known in (OVERLAPS, SURFACES, PREDICTIONS)):
            raise StudyError(
                f"the parameters of a score must be among {', '.join(sorted(OVERLAPS))}, or among"
                f" {', '.join(sorted(SURFACES))}, or among {', '.join(sorted(PREDICTIONS))};"
                f" those of {self.name} are {', '.join(self.columns) or 'none'}."
            )
        if not self.heading:
            object.__setattr__(self, "heading", self.name.replace("_", " "))
        if not self.summary:
            first = (inspect.getdoc(self.of) or "").partition("\n")[0].strip().rstrip(".")
            summary = first[:1].lower() + first[1:] if first else f"{self.heading}, a function of the user's"
            object.__setattr__(self, "summary", summary)

    @property
    def columns(self) -> tuple[str, ...]:
        """What its function receives."""
        known = OVERLAPS | SURFACES | PREDICTIONS
        every = inspect.signature(self.of).parameters.values()
        return tuple(each.name for each in every if each.name in known or each.default is each.empty)

    @property
    def is_of_maps(self) -> bool:
        """Whether it judges label maps, by counts of their pixels; else the answers for whole images."""
        return not set(self.columns) <= PREDICTIONS

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the networks that it judges."""
        return tuple(task for task in Task if task.has_maps == self.is_of_maps)

    @property
    def needs_surfaces(self) -> bool:
        """Whether it is computed from measured boundaries."""
        return self.is_of_maps and not set(self.columns) <= OVERLAPS

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.higher_is_better else -1

    @property
    def is_fraction(self) -> bool:
        """Whether its values lie in [0, 1]."""
        return self.bounds == (0.0, 1.0)


def score_of(thing: object, name: str) -> Score:
    """A score as it is, or that of a plain function: in [0, 1], higher is better, named like the function."""
    if isinstance(thing, Score):
        return thing
    if not callable(thing):
        raise StudyError("must be a function of stored rows, or a `medrobust.metrics.Score`.")
    try:
        return Score(getattr(thing, "__name__", name), thing)
    except ValueError as error:  # a builtin without a signature
        raise StudyError(f"must have parameters that can be read: {error}.") from error


def _nsd(n_boundary: Sums, n_within: Sums, n_both: Sums, n_missed: Sums) -> Any:
    return nsd_of_sums(n_boundary, n_within, n_both + n_missed)


def _right(labels: Labels, predictions: Labels) -> Bool[np.ndarray, "n"]:
    return np.asarray(labels == predictions)


_AVERAGED = "averaged over structures, then scans, then patients"

_BUILT_IN = (
    Score("dice", dice_of_counts, "Dice", summary=f"the Dice overlap, {_AVERAGED}"),
    Score(
        "nsd", _nsd, "NSD", summary=f"the fraction of boundary pixels near the other boundary, {_AVERAGED}"
    ),
    Score("iou", iou_of_counts, "IoU", summary=f"the intersection over union, {_AVERAGED}"),
    Score("accuracy", _right, summary="the fraction of images classified right"),
    Score(
        "balanced_accuracy",
        _right,
        balanced=True,
        summary="the fraction of images classified right, averaged over classes",
    ),
    Score(
        "auroc",
        auroc,
        "AUROC",
        without=auroc_without,
        swaps=auroc_swaps,
        summary="the area under the ROC curve of each class against all others, averaged over classes",
    ),
    Score(
        "kappa",
        quadratic_kappa,
        "weighted kappa",
        bounds=(-1.0, 1.0),
        swaps=kappa_swaps,
        summary="Cohen's kappa of ordered classes such as grades, weighted by the square of their distance",
    ),
)
SCORES = Catalogue("score", "medrobust.scores", {score.name: score for score in _BUILT_IN}, score_of)
"""What comes with medrobust; `study.analysis.PRIMARY` says which is the default of a task."""
