"""Auto-PGD: projected gradient ascent that finds its own step sizes, within a budget."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import Ball, BallNorm, per_image, unit
from medrobust.perturbations.gradients import (
    DLR_CLASSES,
    LOSSES,
    Loss,
    Model,
    check_loss,
    fraction_wrong,
    linearise,
    loss_of_each,
    predict,
    targeted_loss_of_each,
    targeted_weights,
)
from medrobust.rng import generators_of

MOMENTUM = 0.25
"""The weight of the step before."""

FIRST_CHECK, SOONER, SOONEST = 0.22, 0.03, 0.06
"""Steps until the first check of the step size, by how many fewer until each next one, and the fewest; as
fractions of all steps."""

SPARSE_CHECK, SPARSER, SAME_SUPPORT, SLOWER, SLOWEST = 0.04, 1.5, 0.95, 1.5, 10.0
"""Of steps in the sum of magnitudes: fraction of all steps between checks; entries changed so far for each
entry of a step; the fraction of them at which a step's length starts anew; its divisor otherwise, and that of
the shortest one."""

RADII, SHARES = {"1": (3.0, 2.0, 1.0)}, (0.3, 0.3, 0.4)
"""Budgets of the stages, in units of the given one, and their fractions of all steps; else a single stage."""

MOST_TARGETS = 9

PRESETS = {
    "autoattack": Preset(
        {
            "steps": 100,
            "restarts": 1,
            "loss": "cross_entropy",
            "random_start": True,
            "rho": 0.75,
            "all_steps": True,
        },
        source="fra31/auto-attack, autoattack/autopgd_base.py as its version 'standard' runs it. There, "
        "images that the attack cannot turn are returned clean, and of several wrong iterates the last one "
        "is returned; here, always that of the largest loss",
    ),
}


def _check_parameters(parameters: Mapping[str, Any], task: Task) -> str | None:
    if parameters["restarts"] > 1 and not parameters["random_start"]:
        return (
            "restarts: must be 1 with random_start=False, which makes all attempts the same; got "
            f"{parameters['restarts']}."
        )
    return check_stages(parameters) or check_loss(parameters["loss"], task)


def check_stages(parameters: Mapping[str, Any]) -> str | None:
    """What is wrong with the number of steps, of which every one of the `stages` needs one."""
    if parameters["norm"] in RADII and parameters["steps"] < len(SHARES):
        return f"steps: must be at least {len(SHARES)}, one for each stage, got {parameters['steps']}."
    return None


@perturbation(
    norms=("inf", "2", "1"),
    default_ssim=0.98,
    beyond_paper=True,
    on_misclassified="keep",
    crafted_on="targets",
    presets=PRESETS,
    passes=lambda parameters: (
        float(parameters["steps"] * parameters["restarts"])
        * (MOST_TARGETS if parameters["loss"] == "targeted" else 1)
    ),
    check=_check_parameters,
    summary="Gradient ascent that finds its own step sizes.",
    source="Croce, Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse "
    "parameter-free attacks; 2021, Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
)
def apgd(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["autoattack"] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: BallNorm = "inf",
    steps: Annotated[int, Ge(1)] = 100,
    loss: Loss | Literal["targeted"] = "cross_entropy",
    random_start: bool = True,
    restarts: Annotated[int, Ge(1)] = 1,
    rho: Annotated[Ratio, Gt(0)] = 0.75,
    all_steps: bool = False,
) -> Float[Tensor, "n c *space"]:
    """Climb the loss with momentum; where it stalls, go back to the best image and halve the step.

    Steps begin with twice the budget. With norm "1" they change the steepest entries only, and the budget
    shrinks in three stages from three times the given one.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1], 2D or 3D.
        labels: True classes, one per image, finding or pixel.
        support: Where images may change.
        rngs: One generator per image, for random starts.
        tally: Receives the steps of each image.
        preset: Parameters of a named source.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image. "1": the sum of
            magnitudes.
        steps: Steps of an attempt.
        loss: What is climbed: "cross_entropy", "margin" (largest wrong logit minus the right one), "dlr" (the
            margin in units of the logits' spread) or "targeted" (as "dlr", but towards one class per attempt,
            the wrong classes that rank highest for the clean image in turn, at most nine). Of two classes
            "dlr" is the margin, and "targeted" of two or three. Of label maps also the others of `pgd`.
        random_start: Start at a random point on the border of the budget, not at the clean image.
        restarts: Attempts, in "targeted" for each class; the image with the most wrong labels is kept, and of
            equal ones of an attempt that of the largest loss. An image whose labels are all wrong is not
            tried again.
        rho: The step is halved if the loss rose in fewer than this fraction of the steps since the last
            check.
        all_steps: Go on where all labels of an image are wrong, up to a larger loss; by default the image is
            done.
    """
    ball = Ball(images, support, float(eps), norm)
    generators = generators_of(rngs, len(images))
    targets = ranked_rivals(predict(model, images), labels) if loss == "targeted" else [None]

    def attempt(target: Tensor | None, left: Int64[Tensor, " r"]) -> Reached:
        here, drawn = ball.rows(left), [generators[place] for place in left.tolist()]
        return stages(
            model,
            border_images(here, drawn) if random_start else here.clean,
            labels[left],
            here,
            towards(loss, None if target is None else target[left]),
            steps=steps,
            rho=rho,
            all_steps=all_steps,
        )

    return worst_of([partial(attempt, target) for target in targets for _ in range(restarts)], images, tally)


def worst_of(
    attempts: Sequence[Callable[[Int64[Tensor, " r"]], "Reached"]],
    images: Float[Tensor, "n c *space"],
    tally: Tally | None,
) -> Float[Tensor, "n c *space"]:
    """Of each image the most harmful of several attempts, the first of equal ones.

    An image of harm 1 is not tried again.

    Args:
        attempts: Each takes the places of the images that are left.
        images: Clean images.
        tally: Receives the steps of each image.
    """
    result, taken = images.clone(), torch.zeros(len(images), dtype=torch.int64, device=images.device)
    harm = torch.full((len(images),), -1.0, dtype=torch.float64, device=images.device)
    for attempt in attempts:
        left = (harm < 1).nonzero()[:, 0]
        if len(left) == 0:
            break
        reached = attempt(left)
        taken[left] += reached.steps
        better = reached.harm > harm[left]
        result[left[better]], harm[left[better]] = reached.images[better], reached.harm[better]
    if tally is not None:
        tally.steps = taken
    return result


class Climbed(NamedTuple):
    """A loss: `weights` of the logits and the `value` of each image, from logits, labels and places."""

    weights: Callable[[Tensor, Tensor, Tensor], Tensor]
    value: Callable[[Tensor, Tensor, Tensor], Tensor]


Harm = Callable[[Tensor, Tensor], Tensor]
"""What predictions do to each image, from 0 (all right) to 1 (nothing is left to win), given its labels."""


class Reached(NamedTuple):
    """Where an ascent led each image.

    Attributes:
        images: The iterate of most harm, of equal ones that of the largest loss.
        harm: Its harm.
        highest: The iterate of the largest loss.
        steps: Steps taken.
    """

    images: Float[Tensor, "n c *space"]
    harm: Float64[Tensor, " n"]
    highest: Float[Tensor, "n c *space"]
    steps: Int64[Tensor, " n"]


def wrong_of_known(
    predictions: Int64[Tensor, "n *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float64[Tensor, " n"]:
    """Fraction of known labels that are predicted wrong; 1 where none is known."""
    return fraction_wrong(predictions, labels).nan_to_num(1.0)


def towards(loss: str, targets: Int64[Tensor, "n *labelspace"] | None = None) -> Climbed:
    """The loss of that name; "targeted" is the one of the targets."""
    if targets is not None:
        aims = targets
        return Climbed(
            lambda logits, labels, places: targeted_weights(logits, labels, aims[places]),
            lambda logits, labels, places: targeted_loss_of_each(logits, labels, aims[places]),
        )

    def of(logits: Tensor) -> Loss:
        return "margin" if loss == "dlr" and logits.shape[1] < DLR_CLASSES else loss  # type: ignore[return-value]

    return Climbed(
        lambda logits, labels, places: LOSSES[of(logits)](logits, labels),
        lambda logits, labels, places: loss_of_each(of(logits), logits, labels),
    )


def ranked_rivals(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> list[Int64[Tensor, "n *labelspace"]]:
    """The wrong classes of the largest logits, at most nine, the largest first."""
    check_logits(logits, labels)
    wrong = logits.scatter(1, labels.clamp_min(0)[:, None], -torch.inf)
    count = min(MOST_TARGETS, logits.shape[1] - 1)
    return list(wrong.topk(count, dim=1).indices.unbind(1))


def border_images(ball: Ball, rngs: Sequence[np.random.Generator]) -> Float[Tensor, "n c *space"]:
    """Images on the border of the ball, or, for "1", of the first stage's, drawn as in the published code."""
    shape = tuple(ball.clean.shape[1:])
    drawn = np.stack(
        [rng.uniform(-1, 1, shape) if ball.norm == "inf" else rng.standard_normal(shape) for rng in rngs]
    )
    change = ball.supported(torch.from_numpy(drawn).to(ball.clean))
    if ball.norm == "1":
        return ball._replace(eps=RADII["1"][0] * ball.eps).project(ball.clean + change)
    return ball.project(ball.clean + ball.radius * unit(change, float(ball.norm)))


def stages(
    model: Model,
    start: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    ball: Ball,
    climbed: Climbed,
    *,
    steps: int,
    rho: float = 0.75,
    harm: Harm = wrong_of_known,
    all_steps: bool = False,
    radii: Sequence[float] | None = None,
    onward: Literal["highest", "images"] = "highest",
) -> Reached:
    """One ascent after another, each within a smaller ball and from what the one before `Reached`.

    Args:
        model: Network under attack.
        start: Where the first one starts.
        labels: True classes.
        ball: The ball of the last one.
        climbed: What is climbed.
        steps: Steps of all together.
        rho: See `ascend`.
        harm: See `ascend`.
        all_steps: See `ascend`; all but the last one take them.
        radii: Budget of each ascent, in units of the ball's; None: those of its norm. The steps of three are
            divided 30 : 30 : 40.
        onward: Which of the images of `Reached` the next one starts from.
    """
    scales = RADII.get(ball.norm, (1.0,)) if radii is None else radii
    parts = [steps]
    if len(scales) > 1:
        parts = [max(1, round(share * steps)) for share in SHARES[:-1]]
        parts.append(steps - sum(parts))
    taken, reached = torch.zeros(len(labels), dtype=torch.int64, device=labels.device), None
    for scale, part in zip(scales, parts, strict=True):
        here = ball._replace(eps=scale * ball.eps)
        last = scale == scales[-1]
        reached = ascend(
            model,
            start if reached is None else here.project(getattr(reached, onward)),
            labels,
            here,
            climbed,
            steps=part,
            rho=rho,
            harm=harm,
            all_steps=all_steps or not last,
        )
        taken += reached.steps
    assert reached is not None
    return reached._replace(steps=taken)


def ascend(
    model: Model,
    start: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    ball: Ball,
    climbed: Climbed,
    *,
    steps: int,
    rho: float = 0.75,
    harm: Harm = wrong_of_known,
    all_steps: bool = False,
) -> Reached:
    """Climb a loss within a ball, with a step size for each image that halves where the loss stalls.

    Images that are done leave the batch. Any precision.

    Args:
        model: Network under attack.
        start: Images in the ball.
        labels: True classes.
        ball: Where images may go.
        climbed: What is climbed.
        steps: Number of steps.
        rho: A step is halved if the loss rose in at most this fraction of the steps since the last check.
        harm: Which iterate is returned. An image of harm 1 is done.
        all_steps: No image is done before its last step.
    """
    result, highest = start.clone(), start.clone()
    most = torch.full((len(start),), -1.0, dtype=torch.float64, device=start.device)
    taken = torch.full_like(labels.reshape(len(labels), -1)[:, 0], steps)
    here, truth, climbers, schedule = ball, labels, _Climbers.at(start, ball), _checks(steps, ball.norm)
    for number in range(steps + 1):
        if number:
            climbers = climbers.stepped(here, first=number == 1)
        last = number == steps
        if last:
            logits, pullback = predict(model, climbers.images), None
        else:
            logits, pullback = linearise(model, climbers.images)
        if number == 0:
            check_logits(logits, truth)
        places = climbers.places
        value, damage = climbed.value(logits, truth, places), harm(logits.max(1).indices, truth)
        higher = value > climbers.best_value
        better = (damage > most[places]) | ((damage == most[places]) & (value > climbers.value_of_result))
        result[places[better]], most[places[better]] = climbers.images[better], damage[better]
        highest[places[higher]] = climbers.images[higher]
        done = (damage >= 1) & (not all_steps)
        taken[places[done]] = number
        if pullback is None or done.all():
            break
        gradient = pullback(climbed.weights(logits, truth, places))
        climbers = climbers.seen(value, gradient, higher, better)
        if number in schedule:
            climbers = climbers.checked(here, rho, number - schedule[number])
        if done.any():
            going = (~done).nonzero()[:, 0]
            climbers = climbers.rows(going)
            here, truth = here.rows(going), truth[going]
    return Reached(result, most, highest, taken)


def _checks(steps: int, norm: BallNorm) -> dict[int, int]:
    """The steps after which step sizes are checked, each with the check before."""
    period = max(int((SPARSE_CHECK if norm == "1" else FIRST_CHECK) * steps), 1)
    checks, before = {}, 0
    while before + period <= steps:
        checks[before + period] = before
        before += period
        if norm != "1":
            period = max(period - max(int(SOONER * steps), 1), max(int(SOONEST * steps), 1))
    return checks


class _Climbers(NamedTuple):
    """Images that are still climbing, one a row."""

    places: Int64[Tensor, " r"]
    images: Float[Tensor, "r c *space"]
    before: Float[Tensor, "r c *space"]  # the last step
    gradient: Float[Tensor, "r c *space"]
    value: Float[Tensor, " r"]
    value_of_result: Float[Tensor, " r"]
    best: Float[Tensor, "r c *space"]  # of the largest loss
    best_gradient: Float[Tensor, "r c *space"]
    best_value: Float[Tensor, " r"]
    step: Float[Tensor, " r"]
    rises: Int64[Tensor, " r"]  # since the last check
    checked_value: Float[Tensor, " r"]  # the best one at the last check
    halved: Bool[Tensor, " r"]  # at the last check
    n_changed: Int64[Tensor, " r"]  # entries of the best image, at the last check

    @classmethod
    def at(cls, start: Float[Tensor, "n c *space"], ball: Ball) -> "_Climbers":
        places = torch.arange(len(start), device=start.device)
        nothing, lowest = torch.zeros_like(start), start.new_full((len(start),), -torch.inf)
        step = (1 if ball.norm == "1" else 2) * ball.radius.flatten().expand(len(start)).clone()
        return cls(
            places=places,
            images=start,
            before=start,
            gradient=nothing,
            value=lowest,
            value_of_result=lowest,
            best=start,
            best_gradient=nothing,
            best_value=lowest,
            step=step,
            rises=torch.zeros_like(places),
            checked_value=lowest,
            halved=torch.ones_like(places, dtype=torch.bool),
            n_changed=_n_changed(start, ball),
        )

    def rows(self, index: Int64[Tensor, " s"]) -> "_Climbers":
        return _Climbers(*(each[index] for each in self))

    def stepped(self, ball: Ball, *, first: bool) -> "_Climbers":
        length = per_image(self.step, self.images)
        if ball.norm == "1":
            images = ball.project(self.images + length * _sparse(self.gradient, self.n_changed, ball))
            return self._replace(images=images, before=self.images)
        ahead = ball.project(self.images + length * ball.steepest(self.gradient))
        kept = 0.0 if first else MOMENTUM
        images = self.images + (1 - kept) * (ahead - self.images) + kept * (self.images - self.before)
        return self._replace(images=ball.project(images), before=self.images)

    def seen(self, value: Tensor, gradient: Tensor, higher: Tensor, better: Tensor) -> "_Climbers":
        """After a pass: its losses and gradients, and where they are the best so far."""
        first = self.value.isneginf()
        return self._replace(
            gradient=gradient,
            rises=self.rises + ((value > self.value) & ~first),
            value=value,
            value_of_result=torch.where(better, value, self.value_of_result),
            best=torch.where(per_image(higher, self.images), self.images, self.best),
            best_gradient=torch.where(per_image(higher, gradient), gradient, self.best_gradient),
            best_value=torch.where(higher, value, self.best_value),
            checked_value=torch.where(first, value, self.checked_value),
        )

    def checked(self, ball: Ball, rho: float, period: int) -> "_Climbers":
        """Shorter steps, and back to the best image, where the loss stalled; in "1" to fewer entries."""
        n_changed = self.n_changed
        if ball.norm == "1":
            n_changed = _n_changed(self.best, ball)
            back = n_changed < SAME_SUPPORT * self.n_changed
            longest = ball.radius.flatten()
            step = torch.where(back, longest, (self.step / SLOWER).maximum(longest / SLOWEST))
        else:
            stuck = ~self.halved & (self.best_value <= self.checked_value)
            back = (self.rises <= rho * period) | stuck
            step = torch.where(back, self.step / 2, self.step)
        there = per_image(back, self.images)
        return self._replace(
            images=torch.where(there, self.best, self.images),
            gradient=torch.where(there, self.best_gradient, self.gradient),
            step=step,
            rises=torch.zeros_like(self.rises),
            checked_value=self.best_value,
            halved=back,
            n_changed=n_changed,
        )


def _n_changed(images: Float[Tensor, "r c *space"], ball: Ball) -> Int64[Tensor, " r"]:
    return (images != ball.clean).flatten(1).sum(1)


def _sparse(
    gradient: Float[Tensor, "r c *space"], n_changed: Int64[Tensor, " r"], ball: Ball
) -> Float[Tensor, "r c *space"]:
    """Signs of the steepest entries, two for every three changed so far; their magnitudes add up to 1."""
    slopes = ball.supported(gradient).flatten(1)
    count = (n_changed / SPARSER).ceil().long().clamp_min(1)[:, None]
    least = slopes.abs().sort(1, descending=True).values.gather(1, count - 1)
    signs = torch.where(slopes.abs() >= least, slopes.sign(), 0)
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(gradient)
