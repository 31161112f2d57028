"""The binarisation test: can an attack find an adversarial example that is known to exist?"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from medrobust.errors import ModelError
from medrobust.perturbations.geometry import Ball
from medrobust.perturbations.gradients import DLR_CLASSES, Model, about, predict
from medrobust.perturbations.request import Request, perturb
from medrobust.perturbations.selftest.probe import Probe, Verdict, percent, plausible, verdict

INNER = 49
FEWEST_INNER = 8
GAP = 0.05
REQUIRED = 0.95
WEAKNESS = 1e4
"""Inverse of the readout's penalty: weak, but without any the weights of separable data grow forever."""

FORWARD = 1 / 3
"""A forward pass, counted in passes with gradient."""

Features = Callable[[Tensor], Tensor]
"""Returns what the last layer sees, one vector `n d` per image."""


def binarisation(probe: Probe, features: Features | None) -> Verdict:
    """Replace the last layer, image by image, so that the budget is sure to hold an adversarial example.

    In the ball of the attack's budget around an image, 49 inner points are drawn at random (from the ball
    of 0.95 times the radius), and one boundary point (a random corner of the Linf ball, a random point of
    the L2 sphere). A logistic regression on the network's features tells inner points, the image among
    them, from the boundary point, and takes the last layer's place. The attack must find something on the
    boundary point's side. Choices: one boundary point, as in the authors' experiments; their 49 inner points
    rather than 999, since every point costs a pass (fewer where there are fewer features, so that the points
    can be separated; images whose points cannot be are left out); everything within [0, 1] and the support.

    Returns:
        Passed where the attack succeeds on 95 % of the images, as in the paper, or where the number of
        failures is not too unlikely (p < 0.05) for so few images. None where as many random points succeed on
        more than half of the images: then the test is too easy to tell.

    Source:
        Zimmermann, Brendel, Tramèr, Carlini 2022, "Increasing confidence in adversarial robustness
        evaluations".
    """
    entry = probe.request.perturbation
    if probe.labels.ndim > 1:
        return None, None, "It is for classification."
    if entry.budget is None or entry.needs != "gradient":
        return None, None, "The attack has no budget, or follows no gradient."
    if not probe.takes_steps:
        return None, None, "One step cannot follow a curved boundary."

    def features_at(place: int) -> Any:  # networks call other things so too
        return features or getattr(about(probe.model, [place]), "features", None)

    first = features_at(0)
    if first is None:
        return None, None, "The network does not give the features that its last layer sees."
    try:
        shape = tuple(predict(first, probe.images[:1]).shape)
    except ModelError as error:
        return None, None, f"The network does not give its features. {error}"
    if len(shape) != 2:
        return None, None, f"Features must be one vector per image; those of one have the shape {shape}."
    if probe.request.parameters.get("loss") == "dlr":
        return None, None, f"The loss 'dlr' needs {DLR_CLASSES} classes, and the test makes two."
    tried = [_search(probe, features_at(place), place) for place in range(len(probe.labels))]
    found = [each for each in tried if each is not None]
    if not found:
        return None, None, "In no image could random points be separated by the network's features."
    attack, random = (sum(each) / len(found) for each in zip(*found, strict=True))
    return _judge(attack, random, len(found))


def binarisation_passes(wanted: Request) -> float:
    """Passes with gradient that the test takes per image, about; for estimates of time only."""
    entry = wanted.perturbation
    if entry.needs != "gradient" or entry.budget is None or "steps" not in wanted.parameters:
        return 0.0
    return 2 * INNER * FORWARD + entry.passes(wanted.parameters)


def _judge(share: float, random: float, n: int) -> Verdict:
    seen = f"It finds {percent(share)} of {n} adversarial examples that exist by construction, random points"
    seen += f" {percent(random)}"
    passed = plausible(share, n, REQUIRED)
    if passed and random > 0.5:
        return None, share, f"{seen}: too easy to be informative."
    return verdict(
        passed,
        share,
        seen,
        "it is too weak for this network. Give it more steps or restarts, or another step size; if that does "
        "not help, look for masked gradients.",
    )


def _search(probe: Probe, features: Features, place: int) -> tuple[bool, bool] | None:
    """Whether the attack, and as many random draws, succeed on an image; None: its points are inseparable."""
    entry, parameters = probe.request.perturbation, probe.request.parameters
    image, support = probe.images[place : place + 1], probe.support
    if support is not None:
        support = support[place : place + 1]
    ball = Ball(image, support, float(parameters[str(entry.budget)]), parameters.get("norm", "inf"))
    rng = copy.deepcopy(probe.rngs[place])
    n_inner = min(INNER, predict(features, image).shape[1] - 1)
    if n_inner < FEWEST_INNER:
        return None
    binary = _readout(features, *_surroundings(ball, n_inner, rng))
    if binary is None:
        return None

    def succeeds(images: Tensor) -> bool:
        return bool((predict(binary, images).argmax(1) == 1).any())

    inside = torch.zeros_like(probe.labels[:1])
    attacked = perturb(probe.request, binary, image, inside, support=support, rngs=[rng])
    return succeeds(attacked), succeeds(_drawn(ball, n_inner, rng))


def _surroundings(
    ball: Ball, n: int, rng: np.random.Generator
) -> tuple[Float[Tensor, "n c *space"], Float[Tensor, "1 c *space"]]:
    """The image and `n` inner points; and a boundary point, as far away as [0, 1] and the support allow."""
    inner = torch.cat([ball.clean, _drawn(ball._replace(eps=(1 - GAP) * ball.eps), n, rng)])
    direction = torch.from_numpy(rng.standard_normal(tuple(ball.clean.shape))).to(ball.clean)
    return inner, ball.project(ball.clean + ball.eps * ball.steepest(direction))


def _drawn(ball: Ball, n: int, rng: np.random.Generator) -> Float[Tensor, "n c *space"]:
    """Random points of a ball around one image."""
    support = None if ball.support is None else ball.support.expand(n, *ball.support.shape[1:])
    many = ball._replace(clean=ball.clean.expand(n, *ball.clean.shape[1:]), support=support)
    return many.random_images([rng] * n)


def _readout(
    features: Features, inner: Float[Tensor, "n c *space"], boundary: Float[Tensor, "1 c *space"]
) -> Model | None:
    """The network with a last layer that tells the inner points (0) from the boundary point (1)."""
    seen = predict(features, torch.cat([inner, boundary]))
    centre = seen[0]
    scale = (seen - centre).abs().max().clamp_min(torch.finfo(seen.dtype).tiny)
    points = ((seen - centre) / scale).double().cpu().numpy()
    sides = np.repeat([0, 1], [len(inner), 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # any line between them will do
        fitted = LogisticRegression(C=WEAKNESS, max_iter=1000).fit(points, sides)  # type: ignore[no-untyped-call]
    size = float(np.abs(fitted.decision_function(points)).max())
    weight = torch.from_numpy(fitted.coef_[0] / size).to(seen)
    bias = float(fitted.intercept_[0]) / size

    def binary(images: Tensor) -> Tensor:
        score = ((features(images) - centre) / scale) @ weight + bias
        return torch.stack([-score, score], 1)

    shown = predict(binary, torch.cat([inner, boundary])).argmax(1).cpu().numpy()
    return binary if np.array_equal(shown, sides) else None
