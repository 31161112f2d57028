"""Randomised smoothing: what a network answers most often under Gaussian noise, and how far that is certain.

A smoothed network answers at an image what its network answers most often at the image plus noise N(0,
sigma²). If that happens with a probability of at least p > 1/2, the smoothed network answers the same at
every image nearer than `sigma * Phi^-1(p)` in the Euclidean norm over all entries. Noisy images are not
clipped to [0, 1]. The certificate is one of the smoothed network, in the L2 norm; the network itself may
change its answer sooner, and other norms are bounded only by what they mean in L2.

Sources: Cohen, Rosenfeld, Kolter 2019, "Certified adversarial robustness via randomized smoothing" (images,
algorithms CERTIFY and PREDICT); Fischer, Baader, Vechev 2021, "Scalable certified segmentation via randomized
smoothing" (label maps, SegCertify with Holm's correction); Salman et al. 2019, "Provably robust deep learning
via adversarially trained smoothed classifiers" (`Smoothed`, the network to attack, and the bound on its
probabilities by which an attack can contradict a certificate).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy import stats
from torch import Tensor, nn

from medrobust.perturbations.checks import check_images
from medrobust.perturbations.gradients import Model, about, answer, frozen, predict
from medrobust.rng import generators_of
from medrobust.stats.intervals import clopper_pearson
from medrobust.stats.significance import holm

ABSTAINED = -1
"""The label where nothing is certain."""

AT_ONCE = 16
"""Draws that a network sees together."""

TAU = 0.75
"""Of label maps, by default: a pixel is certified if its answer is certain to be more frequent."""

Votes = Int64[np.ndarray, "k *labelspace"]


class Certified(NamedTuple):
    """What is certain of some images.

    Attributes:
        labels: The certified answer, of an image, finding or pixel; -1: abstained.
        radii: L2 norm of a change of the whole image up to which the smoothed network keeps that answer; 0
            where it abstained.
        answers: What the network answered most often, certain or not.
    """

    labels: Int64[Tensor, "n *labelspace"]
    radii: Float64[Tensor, "n *labelspace"]
    answers: Int64[Tensor, "n *labelspace"]


def certify(
    network: Model,
    images: Float[Tensor, "n c *space"],
    *,
    sigma: float,
    draws: int = 1000,
    selection: int = 100,
    alpha: float = 0.001,
    radii: Sequence[float] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
) -> Certified:
    """Certify the answers of a smoothed network: a class for each image, or one for each pixel or finding.

    `selection` draws choose the answer, `draws` fresh ones count how often it is given. Of an image with one
    class the radius follows from the lower bound of its probability (Clopper and Pearson, one-sided). Of
    pixels each radius is tested by itself: that the probability is above `Phi(radius / sigma)`, with Holm's
    correction over all pixels of the image and `alpha` shared evenly by the radii.

    Args:
        network: Gives logits `n k` or `n k *labelspace`; evaluated as it is for attacks, without gradient.
        images: Images in [0, 1].
        sigma: Standard deviation of the noise, above 0. Networks that were not trained with it mostly
            abstain.
        draws: Number of noisy versions that are counted; with all of them alike the radius is
            `largest_radius`.
        selection: Number of those by which the answer is chosen.
        alpha: For each image, the probability that any of its certificates is false, in (0, 1).
        radii: Of pixels and findings only: the radii that are tested, each at least 0; None: that of
            SegCertify, `sigma * Phi^-1(0.75)`.
        rngs: One generator per image.

    Raises:
        ValueError: An argument is out of range, or `radii` is given for images with one class.
        ModelError: The network fails.
    """
    check_images(images)
    _check(sigma, alpha, draws=draws, selection=selection)
    found = []
    with frozen(network):
        for place, rng in enumerate(generators_of(rngs, len(images))):
            asked, image = about(network, [place]), images[place : place + 1]
            chosen = votes(asked, image, sigma=sigma, draws=selection, rng=rng).argmax(0)
            counts = votes(asked, image, sigma=sigma, draws=draws, rng=rng)
            of_chosen = np.take_along_axis(counts, chosen[None], 0)[0]
            if chosen.ndim == 0:
                if radii is not None:
                    raise ValueError(
                        "radii: are tested pixel by pixel; of images with one class the largest radius is "
                        f"found; got {list(radii)}. Leave it out."
                    )
                certain = np.array(certified_radius(int(of_chosen), draws, sigma=sigma, alpha=alpha))
            else:
                tested = (sigma * float(stats.norm.ppf(TAU)),) if radii is None else tuple(radii)
                certain = certified_radii(of_chosen, draws, sigma=sigma, alpha=alpha, radii=tested)
            labels = np.where(np.isnan(certain), ABSTAINED, chosen)
            found.append((labels, np.nan_to_num(certain), counts.argmax(0)))
    return Certified(
        *(torch.from_numpy(np.stack(each)).to(images.device) for each in zip(*found, strict=True))
    )


def smoothed_answers(
    network: Model,
    images: Float[Tensor, "n c *space"],
    *,
    sigma: float,
    draws: int = 1000,
    alpha: float = 0.001,
    rngs: Sequence[np.random.Generator] | None = None,
) -> Int64[Tensor, " n"]:
    """What a smoothed network answers of images with one class (algorithm PREDICT); -1: it abstains.

    It abstains unless a two-sided binomial test tells the most frequent answer from the second one. A class
    is the smoothed network's own with a probability of at least `1 - alpha`. Arguments as of `certify`.

    Raises:
        ValueError: An argument is out of range.
        ModelError: The network fails.
    """
    check_images(images)
    _check(sigma, alpha, draws=draws)
    labels = []
    with frozen(network):
        for place, rng in enumerate(generators_of(rngs, len(images))):
            image = images[place : place + 1]
            counts = votes(about(network, [place]), image, sigma=sigma, draws=draws, rng=rng)
            second, first = (int(each) for each in np.sort(counts)[-2:])
            is_certain = stats.binomtest(first, first + second).pvalue <= alpha
            labels.append(int(counts.argmax()) if is_certain else ABSTAINED)
    return torch.tensor(labels, device=images.device)


def votes(
    network: Model,
    image: Float[Tensor, "1 c *space"],
    *,
    sigma: float,
    draws: int,
    rng: np.random.Generator,
) -> Votes:
    """How often a network gives each answer to an image with noise, in so many draws."""
    counts: Votes | None = None
    for start in range(0, draws, AT_ONCE):
        logits = predict(network, image + sigma * _noise(rng, min(AT_ONCE, draws - start), image))
        answers = logits.max(1).indices
        found = torch.stack([(answers == each).sum(0) for each in range(logits.shape[1])]).cpu().numpy()
        counts = found if counts is None else counts + found
    assert counts is not None
    return counts


def certified_radius(count: int, draws: int, *, sigma: float, alpha: float) -> float:
    """Radius of an answer that was given `count` times; NaN where it may be given less often than not."""
    probability, _ = clopper_pearson(count / draws, draws, 1 - 2 * alpha)
    return sigma * float(stats.norm.ppf(probability)) if probability >= 0.5 else math.nan


def certified_radii(
    counts: Int64[np.ndarray, "*space"], draws: int, *, sigma: float, alpha: float, radii: Sequence[float]
) -> Float64[np.ndarray, "*space"]:
    """The largest of some radii at which each pixel is certified; NaN where it is at none.

    Args:
        counts: How often the answer of each pixel was given.
        draws: In how many draws.
        sigma: Standard deviation of the noise.
        alpha: Probability that any pixel is certified falsely at any radius.
        radii: What is tested, each at least 0.
    """
    certain = np.full(counts.shape, np.nan)
    for radius in sorted(radii):
        # p of each possible count, if the answer were given with just the probability that the radius takes.
        rare = stats.binom.sf(np.arange(-1, draws), draws, stats.norm.cdf(radius / sigma))
        p = holm(rare[counts].reshape(-1)).reshape(counts.shape)
        certain[p <= alpha / len(radii)] = radius
    return certain


def largest_radius(draws: int, *, sigma: float, alpha: float, pixels: int = 1, radii: int = 1) -> float:
    """The largest radius that so many draws can certify: all of them gave the same answer.

    Of label maps it is that of the pixel which Holm's procedure asks most of.
    """
    return sigma * float(stats.norm.ppf((alpha / (pixels * radii)) ** (1 / draws)))


class Smoothed(nn.Module):
    """A network whose probabilities are averaged over fixed draws of noise: what attacks on it follow.

    Its logits are the logarithms of the mean probabilities. The draws are the same for every image.

    Source: Salman et al. 2019 (SmoothAdv).
    """

    def __init__(
        self,
        network: Model,
        images: Float[Tensor, "n c *space"],
        *,
        sigma: float,
        draws: int = 8,
        rng: np.random.Generator,
    ) -> None:
        """Draw noise of the shape of these images."""
        super().__init__()
        self.network, self.sigma = network, sigma
        self.noise = _noise(rng, draws, images)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *labelspace"]:
        """Logarithms of the mean probabilities."""
        noisy = (images[None] + self.sigma * self.noise[:, None]).flatten(0, 1)
        logs = answer(self.network, noisy).log_softmax(1)
        of_draws = logs.view(len(self.noise), len(images), *logs.shape[1:])
        return of_draws.logsumexp(0) - math.log(len(self.noise))


def is_contradicted(
    counts: Int64[np.ndarray, "*labelspace"],
    radii: Float64[np.ndarray, "*labelspace"],
    draws: int,
    *,
    size: float,
    sigma: float,
    alpha: float,
) -> bool:
    """Whether a changed image contradicts certificates of the image, but for chance.

    An answer that is certified up to a radius has, at an image that is `size` away, a probability of at least
    `Phi((radius - size) / sigma)`. Certificates are contradicted if any certified answer is given so rarely
    that this has a probability of at most `alpha`, shared evenly by the answers (Bonferroni).

    Args:
        counts: How often each certified answer was given at the changed image.
        radii: The certified radii; NaN, or less than `size`: nothing is claimed.
        draws: In how many draws.
        size: L2 norm of the change.
        sigma: Standard deviation of the noise.
        alpha: Probability to call true certificates contradicted.
    """
    claimed = radii >= size
    if not claimed.any():
        return False
    least = stats.norm.cdf((radii[claimed] - size) / sigma)
    return bool((stats.binom.cdf(counts[claimed], draws, least) <= alpha / claimed.sum()).any())


def _noise(rng: np.random.Generator, draws: int, images: Tensor) -> Float[Tensor, "draws c *space"]:
    """Drawn one after the other, so that a draw does not depend on how many there are."""
    drawn = rng.standard_normal((draws, *images.shape[1:]), dtype=np.float32)
    return torch.from_numpy(drawn).to(images.device)


def _check(sigma: float, alpha: float, **counts: int) -> None:
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma: must be above 0, such as 0.25 on images in [0, 1]; got {sigma}.")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha: must be above 0 and below 0.5, such as 0.001; got {alpha}.")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: must be at least 1; got {count}.")
