"""Certificates of smoothed networks against closed forms, independent statistics, and attacks."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from affine_networks import scored
from medrobust.core import Task
from medrobust.perturbations import PERTURBATIONS, perturb, pgd, request, smoothing
from medrobust.perturbations.smoothing import (
    Smoothed,
    certified_radii,
    certified_radius,
    certify,
    is_contradicted,
    largest_radius,
    smoothed_answers,
    votes,
)
from medrobust.rng import generator
from perturbation_cases import FEW_STEPS, make_batch, make_network

SIGMA = 0.25


def linear() -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """A linear network of two classes, images, their distances to its boundary; smoothed it is the same."""
    draw = torch.Generator().manual_seed(3)
    weights, images = torch.randn(1, 6, 6, generator=draw), 0.3 + 0.4 * torch.rand(6, 1, 6, 6, generator=draw)
    sums = (images * weights).flatten(1).sum(1)
    threshold = float(sums.mean())
    return scored(weights, threshold), images, (sums - threshold).abs() / weights.norm()


def test_the_radius_of_a_linear_network_grows_to_the_distance_from_its_boundary() -> None:
    network, images, distance = linear()
    true, gaps = network(images).argmax(1), []
    for draws in (100, 1000, 10_000):
        found = certify(network, images, sigma=SIGMA, draws=draws)
        answered = found.labels >= 0
        assert torch.equal(found.labels[answered], true[answered])
        assert (found.radii <= distance + 1e-6).all()
        assert (found.radii[~answered] == 0).all()
        gaps.append(float((distance - found.radii).max()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.03


def by_pixel(images: Tensor) -> Tensor:
    """A network that calls a pixel bright above one half: its distance to the boundary is |x - 0.5|."""
    return torch.cat([0.5 - images, images - 0.5], 1)


def test_pixels_are_certified_up_to_their_distance_and_no_farther() -> None:
    values = torch.linspace(0.02, 0.98, 49).view(1, 1, 7, 7)
    distance, radii = (values - 0.5).abs()[:, 0], (0.0, 0.1, 0.2, 0.3)
    found = certify(by_pixel, values, sigma=SIGMA, draws=4000, radii=radii)
    assert set(found.radii.unique().tolist()) == set(radii)
    certain = found.labels >= 0
    assert torch.equal(found.labels[certain], (values[:, 0] > 0.5).long()[certain])
    assert (found.radii <= distance).all()
    clear = distance[..., None] > torch.tensor(radii) + 0.06
    assert (found.radii[..., None] >= torch.tensor(radii) - 1e-6)[clear].all()


def test_the_default_of_pixels_is_that_of_segcertify() -> None:
    found = certify(by_pixel, torch.full((1, 1, 4, 4), 0.95), sigma=SIGMA, draws=300)
    assert found.radii.unique().tolist() == [pytest.approx(0.6745 * SIGMA, abs=1e-4)]


@pytest.mark.parametrize(
    ("count", "draws"), [(60, 100), (700, 1000), (999, 1000), (1000, 1000), (99_990, 100_000)]
)
def test_the_bound_is_that_of_clopper_and_pearson(count: int, draws: int) -> None:
    exact = stats.binomtest(count, draws).proportion_ci(1 - 2 * 0.001, method="exact").low
    radius = certified_radius(count, draws, sigma=0.5, alpha=0.001)
    assert np.isnan(radius) if exact < 0.5 else radius == pytest.approx(0.5 * stats.norm.ppf(exact))


def test_the_largest_radii_are_those_that_cohen_states() -> None:
    assert largest_radius(100_000, sigma=1, alpha=0.001) == pytest.approx(3.81, abs=0.005)
    assert largest_radius(1000, sigma=1, alpha=0.001) == pytest.approx(2.46, abs=0.005)
    assert certified_radius(1000, 1000, sigma=1, alpha=0.001) == pytest.approx(
        largest_radius(1000, sigma=1, alpha=0.001)
    )
    # 128 x 128 pixels need 58 draws that agree, at tau = 0.75.
    tau = float(stats.norm.ppf(0.75))
    assert largest_radius(58, sigma=1, alpha=0.001, pixels=128**2) >= tau
    assert largest_radius(57, sigma=1, alpha=0.001, pixels=128**2) < tau


def test_pixels_are_tested_by_holm() -> None:
    """Step down: the smallest p against alpha / m, the next against alpha / (m - 1), until one fails."""
    counts, draws, alpha, radii = generator(0, "counts").integers(60, 101, (9, 11)), 100, 0.05, (0.1, 0.3)
    found = certified_radii(counts, draws, sigma=0.5, alpha=alpha, radii=radii)
    expected = np.full(counts.shape, np.nan)
    for radius in radii:
        tau = stats.norm.cdf(radius / 0.5)
        p = np.array([stats.binomtest(int(k), draws, tau, "greater").pvalue for k in counts.flat])
        for rank, place in enumerate(np.argsort(p, kind="stable")):
            if p[place] > alpha / 2 / (p.size - rank):
                break
            expected.flat[place] = radius
    assert 0 < np.isnan(expected).sum() < counts.size
    np.testing.assert_array_equal(found, expected)


def test_false_certificates_are_as_rare_as_alpha_says() -> None:
    rng, sigma, radius, alpha = generator(0, "false"), 0.5, 0.2, 0.1
    tau = stats.norm.cdf(radius / sigma)
    counts = rng.binomial(200, tau, (1500, 30))  # each pixel just fails to reach the radius
    false = [
        np.isfinite(certified_radii(each, 200, sigma=sigma, alpha=alpha, radii=(radius,))).any()
        for each in counts
    ]
    assert np.mean(false) <= alpha + 3 * np.sqrt(alpha / 1500)
    assert np.mean(false) > alpha / 4
    alone = [certified_radius(int(k), 200, sigma=sigma, alpha=alpha) > radius for k in counts[:, 0]]
    assert np.mean(alone) <= alpha + 3 * np.sqrt(alpha / 1500)


def test_answers_abstain_where_the_first_two_cannot_be_told_apart() -> None:
    network, images, distance = linear()
    answers = smoothed_answers(network, images, sigma=SIGMA)
    near = distance < 0.01
    assert near.any()
    assert (answers[near] == -1).all()
    clear = distance > 0.1
    assert torch.equal(answers[clear], network(images).argmax(1)[clear])


def test_an_image_alone_gets_what_it_gets_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images, _ = linear()
    together = certify(network, images, sigma=SIGMA, draws=150, rngs=[generator(0, i) for i in range(6)])
    monkeypatch.setattr(smoothing, "AT_ONCE", 7)  # nor does it matter how many draws are seen together
    alone = certify(network, images[4:5], sigma=SIGMA, draws=150, rngs=[generator(0, 4)])
    for whole, one in zip(together, alone, strict=True):
        assert torch.equal(whole[4:5], one)


def test_a_smoothed_network_has_the_mean_probabilities() -> None:
    network, images, _ = linear()
    smoothed = Smoothed(network, images, sigma=SIGMA, draws=5, rng=generator(0, "noise"))
    noise = torch.from_numpy(generator(0, "noise").standard_normal((5, 1, 6, 6), dtype=np.float32))
    expected = torch.stack([network(images + SIGMA * each).softmax(1) for each in noise]).mean(0)
    assert torch.allclose(smoothed(images).exp(), expected, atol=1e-6)


def attacks() -> list[tuple[str, Task]]:
    """Attacks with a budget in L2, and those that make the L2 norm small."""
    tasks = (Task.CLASSIFICATION, Task.SEGMENTATION)
    return [
        (name, task)
        for name, entry in PERTURBATIONS.items()
        for task in tasks
        if entry.role == "attack" and "2" in entry.norms and task in entry.tasks
    ]


@pytest.mark.parametrize(("name", "task"), attacks())
def test_no_attack_of_the_catalogue_contradicts_a_certificate(name: str, task: Task) -> None:
    network, sigma, draws = make_network(task).eval(), 0.3, 200
    images, _ = make_batch(task, network)
    images = images[:2]
    radii = (0.0, 0.15) if task.has_maps else None
    found = certify(network, images, sigma=sigma, draws=draws, radii=radii)
    largest = float(found.radii.max())
    assert largest >= 0.1
    entry = PERTURBATIONS[name]
    item = {"name": name, **FEW_STEPS.get(name, {})}
    item |= {"norm": "2"} if len(entry.norms) > 1 else {}
    item |= {"eps": 0.95 * largest} if entry.budget == "eps" else {}
    smoothed = Smoothed(network, images, sigma=sigma, rng=generator(0, "attack"))
    rngs = [generator(0, "start", place) for place in range(2)]
    made = perturb(request(item, task), smoothed, images, found.answers, rngs=rngs)
    for place in range(2):
        size = float((made[place] - images[place]).norm())
        counts = votes(network, made[place : place + 1], sigma=sigma, draws=draws, rng=generator(1, place))
        labels = found.labels[place].numpy()
        of_certified = np.take_along_axis(counts, np.maximum(labels, 0)[None], 0)[0]
        certain = np.where(labels >= 0, found.radii[place].numpy(), np.nan)
        assert not is_contradicted(of_certified, certain, draws, size=size, sigma=sigma, alpha=0.001)


def test_a_certificate_that_is_too_large_is_contradicted() -> None:
    network, images, distance = linear()
    place = int(distance.argmax())
    image, label = images[place : place + 1], network(images[place : place + 1]).argmax(1)
    claimed, reached = np.array(3.0 * float(distance[place])), float(2.5 * distance[place])
    smoothed = Smoothed(network, image, sigma=SIGMA, rng=generator(0, "attack"))
    made = pgd(smoothed, image, label, eps=reached, norm="2", steps=10)
    counts = votes(network, made, sigma=SIGMA, draws=100, rng=generator(0, "seen"))[label.item()]
    facts = {"size": float((made - image).norm()), "sigma": SIGMA, "alpha": 0.001}
    assert is_contradicted(np.array(counts), claimed, 100, **facts)
    assert not is_contradicted(np.array(counts), np.array(float(distance[place])), 100, **facts)
    assert not is_contradicted(np.array(counts), np.array(np.nan), 100, **facts)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sigma": 0.0}, "sigma: must be above 0, such as 0.25"),
        ({"sigma": 0.25, "alpha": 0.5}, "alpha: must be above 0 and below 0.5"),
        ({"sigma": 0.25, "draws": 0}, "draws: must be at least 1; got 0"),
        ({"sigma": 0.25, "radii": (0.1,)}, "radii: are tested pixel by pixel; .* got"),
        ({"sigma": 0.25, "rngs": []}, "rngs: must hold one generator per image"),
    ],
)
def test_what_is_refused(wrong: dict[str, object], message: str) -> None:
    network, images, _ = linear()
    with pytest.raises(ValueError, match=message):
        certify(network, images, **wrong)  # type: ignore[arg-type]
