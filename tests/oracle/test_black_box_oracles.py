"""FAB, Square, RayS and HopSkipJump where the best that anyone can do is known."""

import numpy as np
import pytest
import torch

from affine_networks import Affine, scored
from medrobust.core import Task
from medrobust.perturbations import Tally, fab, hopskipjump, rays, square
from medrobust.perturbations.attacks.square import bulged, bump, bumps, draws_of, window
from medrobust.perturbations.contract import smooth_batch, smooth_network
from medrobust.perturbations.geometry import Ball, lengths, step_inside
from medrobust.perturbations.gradients import fraction_wrong
from medrobust.rng import generator

DUAL = {"inf": 1, "2": 2, "1": torch.inf}


def sizes(images, made, norm):
    return lengths(made - images, float(norm)).flatten()


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("options", [{}, {"targeted": True}])
def test_fab_ends_within_a_hundredth_of_the_nearest_point(norm, classes, options):
    model = Affine(classes)
    images, labels = model.batch()
    distance, rival = model.distances(DUAL[norm])
    tally = Tally()
    made = fab(model, images, labels, norm=norm, steps=3, tally=tally, **options)
    assert torch.equal(model(made).argmax(1), rival)
    assert ((sizes(images, made, norm) / distance) <= 1.01).all()
    assert (tally.steps == 3 * (classes - 1 if options else 1)).all()


@pytest.mark.parametrize("norm", DUAL)
def test_fab_ends_within_a_hundredth_of_the_nearest_point_inside_of_the_range_and_support(norm):
    """Half of the entries are black or white; the way is the exact one, which other tests judge."""
    draw = torch.Generator().manual_seed(0)
    images = (3 * torch.rand(6, 1, 8, 8, generator=draw) - 1).clamp(0, 1)
    weights = torch.randn(1, 1, 8, 8, generator=draw) ** 3
    support = torch.rand(6, 1, 8, 8, generator=draw) < 0.8
    room = torch.where(weights > 0, 1 - images, images) * support
    rise = 0.5 * (room * weights.abs()).sum((1, 2, 3))
    nearest = step_inside(images, support, weights.expand_as(images), rise, norm)
    for place in range(6):
        one = slice(place, place + 1)
        model = scored(weights, ((images + nearest) * weights)[place].sum())
        made = fab(model, images[one], torch.tensor([0]), norm=norm, support=support[one], steps=6)
        assert model(made).argmax(1) == 1
        assert not ((made != images[one]) & ~support[one]).any()
        assert sizes(images[one], made, norm) <= 1.01 * sizes(images[one], (images + nearest)[one], norm)


def test_restarts_of_fab_never_lengthen_its_perturbations():
    network = smooth_network(Task.CLASSIFICATION)
    images, labels = smooth_batch(Task.CLASSIFICATION, network, n=3)
    tally = Tally()
    once = fab(network, images, labels, steps=5)
    more = fab(network, images, labels, steps=5, restarts=3, tally=tally)
    assert (sizes(images, more, "inf") <= sizes(images, once, "inf") + 1e-7).all()
    assert (tally.steps == 15).all()


class Linear:
    """The second logit minus the first is a weighted sum, too small to change the decision."""

    def __init__(self, *shape):
        self.weights = torch.randn(*shape, generator=torch.Generator().manual_seed(0))

    def __call__(self, images):
        sums = (images * self.weights).flatten(1).sum(1)
        return torch.stack([torch.full_like(sums, 1e3), sums], 1)


@pytest.mark.parametrize("shape", [(2, 4, 7), (1, 3, 4, 3)])
def test_square_arrives_at_the_corner_of_the_ball(shape):
    model, images = Linear(*shape), torch.full((2, *shape), 0.5)
    tally = Tally()
    made = square(model, images, torch.tensor([0, 0]), eps=0.1, steps=800, tally=tally)
    gain = ((made - images) * model.weights).flatten(1).sum(1)
    assert (gain >= 0.98 * 0.1 * model.weights.abs().sum()).all()
    assert (tally.steps == 800).all()


@pytest.mark.parametrize(("norm", "share"), [("2", 0.3), ("1", 0.25)])
def test_square_keeps_and_uses_its_budget(norm, share):
    model, images = Linear(2, 9, 12), torch.full((2, 2, 9, 12), 0.5)
    gains = []
    for steps in (1, 30, 300):
        made = square(model, images, torch.tensor([0, 0]), eps=0.5, norm=norm, steps=steps)
        assert torch.allclose(sizes(images, made, norm), torch.tensor(0.5))
        gains.append(((made - images) * model.weights).flatten(1).sum(1).min())
    assert gains[0] < gains[1] < gains[2]
    assert gains[2] > share * 0.5 * lengths(model.weights[None], DUAL[norm])


@pytest.mark.parametrize("norm", ["2", "1"])
def test_bumps_and_moved_energy_are_as_large_as_the_budget(norm):
    images = torch.full((2, 2, 9, 12), 0.5)
    ball, rngs = Ball(images, None, 0.5, norm), [generator(0, place) for place in range(2)]
    begun = bumps(ball, rngs)
    drawn = np.stack([rng.random(draws_of(images)) for rng in rngs])
    moved = bulged(ball, begun, drawn, 0.3)
    assert not torch.allclose(begun, moved)
    for made in (begun, moved):
        assert torch.allclose(sizes(images, made, norm), torch.tensor(0.5))


def test_windows_lie_anywhere():
    """The source never draws the last place."""
    images, sides = torch.zeros(3, 2, 5, 7), [2, 3]
    images[window(np.array([[0.0, 0.0], [0.999, 0.999], [0.5, 0.2]]), images, sides)] = 1
    places = [image[0].nonzero().aminmax(dim=0) for image in images]
    assert [(low.tolist(), high.tolist()) for low, high in places] == [
        ([0, 0], [1, 2]),
        ([3, 4], [4, 6]),
        ([2, 1], [3, 3]),
    ]
    assert images.sum() == 3 * 2 * 2 * 3


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("sides", [[5, 5], [4, 7], [1, 3], [3, 5, 3]])
def test_bumps_are_two_pyramids_of_opposite_sign(sides, order):
    made = bump(sides, 0, order)
    assert list(made.shape) == sides
    assert made.norm(order) == pytest.approx(1)
    first, second = made.split([sides[0] // 2, sides[0] - sides[0] // 2])
    assert (first > 0).all()
    assert (second < 0).all()


def test_square_turns_more_pixels_than_noise_of_its_size_and_stops_when_all_are_wrong():

    network = smooth_network(Task.SEGMENTATION)
    images, labels = smooth_batch(Task.SEGMENTATION, network, n=2)
    wrong = [
        fraction_wrong(network(made).argmax(1), labels)
        for made in (square(network, images, labels, eps=0.05, steps=steps) for steps in (1, 100))
    ]
    assert (wrong[1] > wrong[0] + 0.05).all()


@pytest.mark.parametrize(("norm", "near"), [("2", 1.05), ("inf", 1.15)])
def test_hopskipjump_finds_the_nearest_point_by_decisions_alone(norm, near):
    model = Affine(2)
    images, labels = model.batch()
    distance, _ = model.distances(DUAL[norm])
    tally = Tally()

    def decide(x):
        return torch.nn.functional.one_hot(model(x.detach()).argmax(1), 2).float()

    made = hopskipjump(decide, images, labels, norm=norm, steps=9, tally=tally)
    assert (model(made).argmax(1) != labels).all()
    ratio = sizes(images, made, norm) / distance
    assert ratio.median() <= near
    assert (tally.steps > 100).all()


def test_rays_needs_little_more_than_the_nearest_boundary_by_decisions_alone():
    model = Affine(2)
    images, labels = model.batch()
    distances, _ = model.distances(DUAL["inf"])

    def decide(x):
        return torch.nn.functional.one_hot(model(x.detach()).argmax(1), 2).float()

    for place, distance in enumerate(distances.tolist()):
        one, tally = slice(place, place + 1), Tally()
        for factor in (1.02, 0.98):
            eps = factor * distance
            made = rays(decide, images[one], labels[one], eps=eps, steps=3000, tally=tally)
            assert (decide(made).argmax(1) != labels[one]).all() == (factor > 1)
            assert sizes(images[one], made, "inf") == pytest.approx(eps, rel=1e-4 if factor < 1 else 0.02)
            assert tally.steps == 3000 if factor < 1 else tally.steps < 3000


def test_rays_turns_signs_inside_of_the_support_only():
    """Of five entries that may change, all have to, each in its own direction."""
    weights = torch.tensor([5.0, -4.0, 3.0, -2.0, 1.0, 9.0]).view(1, 1, 2, 3)
    images, support = torch.full((1, 1, 2, 3), 0.5), weights < 9
    model = scored(weights, (0.5 * weights).sum() + 15 * 0.01)
    made = rays(model, images, torch.tensor([0]), support=support, eps=0.0101, steps=200)
    assert model(made).argmax(1) == 1
    assert torch.equal((made - images).sign(), weights.sign() * support)


def test_an_image_is_attacked_by_itself():
    model = Affine(3)
    images, labels = model.batch()
    labels[3] = (labels[3] + 1) % 3
    together = rays(model, images, labels, eps=0.02, steps=60)
    assert torch.equal(together[3], images[3])
    for place in (0, 7):
        one = slice(place, place + 1)
        alone = rays(model, images[one], labels[one], eps=0.02, steps=60)
        assert torch.allclose(alone, together[one], atol=1e-6)


def test_hopskipjump_leaves_images_without_a_beginning():
    always = lambda x: torch.tensor([[1.0, 0.0]]).repeat(len(x), 1)  # noqa: E731
    images, tally = torch.rand(2, 1, 5, 4, generator=torch.Generator().manual_seed(0)), Tally()
    made = hopskipjump(always, images, torch.tensor([0, 0]), tries=7, tally=tally)
    assert torch.equal(made, images)
    assert tally.steps.tolist() == [7, 7]


@pytest.mark.parametrize("attack", [square, hopskipjump])
def test_an_image_draws_by_itself(attack):
    """Also where others of its batch are done earlier."""
    model = Affine(3)
    images, labels = model.batch()
    options = {"eps": 0.02, "steps": 20} if attack is square else {"steps": 2, "draws": 10}
    rngs = [generator(0, place) for place in range(12)]
    together = attack(model, images, labels, rngs=rngs, **options)
    for place in (0, 7):
        one = slice(place, place + 1)
        alone = attack(model, images[one], labels[one], rngs=[generator(0, place)], **options)
        assert torch.allclose(alone, together[one], atol=1e-6)
