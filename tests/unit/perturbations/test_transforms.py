"""Plausible transforms: closed forms, gradients, what moves with what, and how they are searched."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from medrobust.core import UNKNOWN, Task
from medrobust.errors import StudyError
from medrobust.perturbations import TRANSFORM_SUITES, TRANSFORMS, Tally, moved, perturb, request, requests
from medrobust.perturbations.corruptions.geometry import resampled, sampled, splines, voxels
from medrobust.perturbations.gradients import predict
from medrobust.perturbations.transforms.geometry import flow, jacobian
from medrobust.perturbations.transforms.search import (
    Applied,
    _harm_and_way,
    harm,
    shares_of,
)
from perturbation_cases import make_batch, make_network, make_rngs

ENTRIES = {entry.name: entry for entry in TRANSFORMS}
MOVING = [name for name, entry in ENTRIES.items() if entry.moves_labels]
SIDE = 32


def pictures(n=3, channels=3, space=(SIDE, SIDE)):
    """Smooth images in [0.1, 0.9]."""
    rough = torch.from_numpy(np.random.default_rng(0).random((n, channels, *[5] * len(space)), np.float32))
    mode = "bilinear" if len(space) == 2 else "trilinear"
    return 0.1 + 0.8 * torch.nn.functional.interpolate(rough, space, mode=mode, align_corners=True)


def theta_of(entry, images, search="random", **parameters):
    """Parameters that a search without a network gives."""
    tally = Tally()
    make(entry, images, tally=tally, search=search, **parameters)
    return tally.theta


def make(entry, images, labels=None, theta=None, tally=None, **parameters):
    labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    task = Task.CLASSIFICATION if labels.ndim == 1 else Task.SEGMENTATION
    asked = request({"name": entry.name, **parameters}, task)
    return moved(asked, images, labels, rngs=make_rngs(len(images)), found=theta, tally=tally)


@pytest.mark.parametrize("name", ENTRIES)
def test_at_strength_0_nothing_changes(name):
    images = pictures()
    made = make(ENTRIES[name], images, strength=0, search="random")
    assert made.valid.all()
    assert torch.allclose(made.images, images, atol=2e-6)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_neutral_parameters_change_nothing(name):
    entry, images = ENTRIES[name], pictures()
    theta = torch.zeros_like(theta_of(entry, images))
    assert torch.allclose(make(entry, images, theta=theta).images, images, atol=2e-6)


@pytest.mark.parametrize("name", ENTRIES)
def test_parameters_make_the_images_again_without_a_network(name):
    task = Task.SEGMENTATION
    network = make_network(task, channels=3)
    images, labels = make_batch(task, network, channels=3)
    asked, tally = request({"name": name, "passes": 4}, task), Tally()
    found = moved(asked, images, labels, network, rngs=make_rngs(3), tally=tally)
    again = moved(asked, images, labels, found=tally.theta)
    assert tally.theta.abs().max() <= 1
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ENTRIES)
def test_gradients_are_those_of_finite_differences(name):
    """Of the mean of a smooth function of the pixels; in double precision."""
    entry, images = ENTRIES[name], pictures(n=1, channels=3, space=(12, 12)).double()
    theta = 0.5 * theta_of(entry, images.float()).double()
    function = inner(entry)
    weights = torch.from_numpy(np.random.default_rng(1).random(images.shape))

    def value(at):
        return float((weights * function(images, at)).sum())

    leaf = theta.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((weights * function(images, leaf)).sum(), leaf)
    rng = np.random.default_rng(2)
    for place in rng.choice(theta.shape[1], min(6, theta.shape[1]), replace=False):
        step = torch.zeros_like(theta)
        step[0, place] = 1e-5
        slope = (value(theta + step) - value(theta - step)) / 2e-5
        assert slope == pytest.approx(float(gradient[0, place]), rel=0.02, abs=2e-3)


def inner(entry):
    """The differentiable function of images and parameters inside an entry."""
    cell = inspect_closure(entry.function)
    extra = {"spacing": (1.0, 1.0)} if "spacing" in cell.__annotations__ else {}
    if entry.moves_labels:
        return lambda images, theta: sampled(images, cell(images, theta, strength=1.0, **extra))[0]
    return lambda images, theta: cell(images, theta, strength=0.2, **extra)


def inspect_closure(function):
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def test_splines_are_a_partition_of_unity():
    for size, points in ((5, 7), (96, 7), (64, 4), (40, 20)):
        weights = splines(size, points)
        assert weights.shape == (size, points)
        assert np.allclose(weights.sum(1), 1)
        assert (weights >= 0).all()


def test_a_bias_field_stays_between_its_largest_factor_and_the_inverse():
    images = torch.full((2, 1, SIDE, SIDE), 0.4)
    for sign in (-1.0, 1.0):
        theta = torch.full((2, 49), sign)
        made = make(ENTRIES["bias_field_search"], images, theta=theta, strength=0.25).images
        assert torch.allclose(made, images * 1.25**sign, atol=1e-6)
    drawn = make(ENTRIES["bias_field_search"], images, strength=0.25, search="random").images / images
    assert 1 / 1.25 <= drawn.min() < drawn.max() <= 1.25


def test_contrast_and_colour_at_the_edge_of_what_is_plausible():
    images = pictures(n=1)
    squared = make(ENTRIES["contrast_search"], images, theta=torch.tensor([[1.0, 0.0]]), strength=1).images
    assert torch.allclose(squared, images**2, atol=1e-6)
    darker = make(ENTRIES["contrast_search"], images, theta=torch.tensor([[0.0, -1.0]]), strength=1).images
    assert torch.allclose(darker, images / 2, atol=1e-6)
    red = make(ENTRIES["colour_search"], images, theta=torch.tensor([[-1.0, 0.0, 0.0]]), strength=1).images
    assert torch.allclose(red[:, 0], images[:, 0] / 2)
    assert torch.equal(red[:, 1:], images[:, 1:])


def test_a_shift_of_whole_pixels_moves_images_and_labels_alike():
    """The third pair of parameters is the shift, a twentieth of the side at 30 degrees."""
    images = pictures(n=1, channels=1, space=(40, 40))
    labels = (images[:, 0] * 5).long()
    theta = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0]])
    made = make(ENTRIES["affine_search"], images, labels, theta=theta, strength=30.0)
    assert torch.allclose(made.images[:, :, :-2], images[:, :, 2:], atol=1e-5)
    assert torch.equal(made.labels[:, :-2], labels[:, 2:])
    assert (made.labels[:, -2:] == UNKNOWN).all()
    assert made.valid[:, :-2].all()
    assert not made.valid[:, -2:].any()


def test_positions_count_in_mm():
    """The same head on pixels of half the size: it turns by the same angle, and shifts by as many mm."""
    fine, theta = pictures(n=1, channels=1, space=(64, 32)), torch.full((1, 5), 0.6)
    asked = request({"name": "affine_search", "strength": 20}, Task.CLASSIFICATION)
    label = torch.zeros(1, dtype=torch.int64)
    square = moved(asked, fine, label, found=theta, spacing=(1.0, 2.0))
    mirrored = moved(
        asked,
        fine.mT.contiguous(),
        label,
        found=theta[:, [0, 2, 1, 4, 3]] * torch.tensor([-1.0, 1, 1, 1, 1]),
        spacing=(2.0, 1.0),
    )
    assert torch.allclose(square.images.mT, mirrored.images, atol=1e-4)


@pytest.mark.parametrize("space", [(SIDE, SIDE), (20, 16, 18)])
@pytest.mark.parametrize("strength", [3.0, 200.0])
def test_deformations_never_fold(space, strength):
    """Also at a strength far beyond what is plausible, where the flow is slowed down."""
    images = torch.stack(
        [each.to(torch.float32) for each in torch.meshgrid(*map(torch.arange, space), indexing="ij")]
    )
    images = (images / max(space))[None, :].repeat(2, 1, *[1] * len(space))
    theta = theta_of(ENTRIES["deformation_search"], images).sign()  # the corners of the box
    made = make(ENTRIES["deformation_search"], images, theta=theta, strength=strength)
    where = made.images * max(space)
    displacement = where - images * max(space)
    inside = made.valid.view(2, -1)
    determinants = jacobian(displacement)
    whole = torch.nn.functional.max_pool2d if len(space) == 2 else torch.nn.functional.max_pool3d
    outside = whole((~made.valid)[:, None].float(), 2, stride=1)[:, 0] > 0
    assert inside.any()
    assert (determinants[~outside] > 0).all()
    assert float(displacement.abs().amax(1)[made.valid].max()) <= strength + 1e-3


def test_a_flow_backwards_undoes_it():
    velocity = 2 * (pictures(n=1, channels=2, space=(48, 48)) - 0.5)
    there, back = flow(velocity), flow(-velocity)
    places = voxels((48, 48), velocity.device)
    met, _ = sampled(back, places + there.flatten(2).mT)
    assert float((there + met)[..., 8:-8, 8:-8].abs().max()) < 0.05


def test_the_jacobian_of_a_linear_map_is_its_determinant():
    matrix = torch.tensor([[1.2, 0.3], [-0.1, 0.9]])
    places = voxels((9, 11), torch.device("cpu"))
    displacement = (places @ matrix.T - places).T.view(1, 2, 9, 11)
    assert torch.allclose(
        jacobian(displacement), torch.full((1, 8, 10), float(torch.linalg.det(matrix))), atol=1e-5
    )


def test_movement_leaves_things_where_they_are_in_the_middle_of_the_spectrum():
    """A path that stays at one place moves nothing, wherever that is; and motion keeps the mean."""
    entry, images = ENTRIES["motion_search"], pictures(n=1, channels=1)
    still = make(entry, images, theta=torch.full((1, 40), 0.7), strength=10).images
    assert torch.allclose(still, images, atol=1e-5)
    moving = make(entry, images, strength=4, search="random").images
    assert not torch.allclose(moving, images, atol=1e-2)
    assert float(moving.mean()) == pytest.approx(float(images.mean()), rel=0.05)


@pytest.mark.parametrize("name", MOVING)
def test_an_image_that_shows_its_labels_still_does(name):
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[:, 16:48, 20:44] = 1
    made = make(ENTRIES[name], labels[:, None].float(), labels, search="random")
    off = (made.images[:, 0] - made.labels).abs()[made.valid] > 0.5
    assert float(off.float().mean()) < 0.002


def test_labels_that_move_take_part_in_the_gradient():
    """Of the loss with labels that are interpolated as the image is, by finite differences."""
    rows = torch.linspace(0, 4 * torch.pi, 64).sin()
    images = ((rows[:, None] + rows[None, :]) / 4 + 0.5)[None, None]
    labels = (images[:, 0] > 0.5).long()
    layer = torch.nn.Conv2d(1, 2, 1)
    layer.weight.data[:, 0, 0, 0], layer.bias.data[:] = torch.tensor([-8.0, 8.0]), torch.tensor([4.0, -4.0])
    theta = torch.tensor([[0.0, 0.0, 0.0, 0.3, -0.2]])
    points = inspect_closure(ENTRIES["affine_search"].function)

    shares = shares_of(resampled(images, labels, points(images, theta, (1.0, 1.0), 15.0))[1])
    shown = torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()

    def loss(at):
        where = points(images, at, (1.0, 1.0), 15.0)
        logs = layer(sampled(images, where)[0]).log_softmax(1)
        return -float((shares[:, None] * sampled(shown, where)[0] * logs).detach().double().sum())

    def apply(at):
        where = points(images, at, (1.0, 1.0), 15.0)
        return Applied(*resampled(images, labels, where), where)

    _, way = _harm_and_way(layer, apply, labels, theta)
    steps = 0.02 * torch.eye(5)[:, None]
    slopes = torch.tensor([(loss(theta + step) - loss(theta - step)) / 0.04 for step in steps])
    assert torch.allclose(way[0], slopes / slopes.norm(), rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("name", "theta"),
    [("affine_search", [0.2, 0.4, -0.3, 0.1, 0.5]), ("contrast_search", [0.3, -0.4])],
)
def test_where_pixels_move_under_the_label_of_an_image_the_way_also_leads_away(name, theta):
    """Halfway between the gradient, by finite differences, and the parameters; else the gradient alone."""
    images, labels = pictures(n=1, channels=1), torch.tensor([1])
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIDE * SIDE, 2))
    rough = torch.from_numpy(np.random.default_rng(3).normal(0, 0.02, (1, 1, 8, 8)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(rough, (SIDE, SIDE), mode="bilinear").flatten()
    layer[1].weight.data = torch.stack([smooth, -smooth])
    function, theta = inner(ENTRIES[name]), torch.tensor([theta])

    def loss(at):
        logits = layer(function(images, at)).detach().double()
        return float(torch.nn.functional.cross_entropy(logits, labels))

    def apply(at):
        valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
        return Applied(function(images, at), labels, valid, at if name in MOVING else None)

    steps = 0.01 * torch.eye(theta.shape[1])[:, None]
    slopes = torch.tensor([(loss(theta + step) - loss(theta - step)) / 0.02 for step in steps])
    expected = slopes / slopes.norm()
    if name in MOVING:
        expected = expected + theta[0] / theta.norm()
        expected = expected / expected.norm()
    _, way = _harm_and_way(layer, apply, labels, theta)
    assert torch.allclose(way[0], expected, atol=0.05)


def test_shares_are_of_classes_in_maps_and_of_labels_elsewhere():
    labels = torch.tensor([[[0, 0, 0], [1, UNKNOWN, UNKNOWN]]])
    assert torch.allclose(shares_of(labels), torch.tensor([[[1 / 6, 1 / 6, 1 / 6], [0.5, 0, 0]]]))
    assert torch.equal(shares_of(torch.tensor([3, 1])), torch.ones(2))
    assert torch.allclose(shares_of(torch.tensor([[1, 0, UNKNOWN]])), torch.tensor([[0.5, 0.5, 0.0]]))
    assert torch.equal(shares_of(torch.full((1, 2, 2), UNKNOWN)), torch.zeros(1, 2, 2))


def test_harm_is_above_0_where_a_prediction_is_wrong():
    logits, labels = 5 * torch.randn(64, 4, generator=torch.manual_seed(0)), torch.arange(64) % 4
    seen = harm(logits, labels, shares_of(labels))
    assert torch.equal(seen > 0, logits.argmax(1) != labels)
    assert seen.abs().max() <= 1
    findings = torch.tensor([[1, 0, UNKNOWN]])
    sure = torch.tensor([[[-50.0, -50.0, 50.0], [50.0, 50.0, -50.0]]])  # right, wrong, nobody knows
    assert harm(sure, findings, shares_of(findings)).tolist() == [0.0]


def harms(name, search, task, seed, passes=10, wrap=lambda network: network, **parameters):
    """The harm to each image that a search finds, and the parameters."""
    network = make_network(task, channels=3)
    images, labels = make_batch(task, network, n=4, channels=3, space=(24, 24))
    asked, tally = request({"name": name, "search": search, "passes": passes, **parameters}, task), Tally()
    rngs = [np.random.default_rng([seed, number]) for number in range(4)]
    made = moved(asked, images, labels, wrap(network), rngs=rngs, tally=tally)
    logits = predict(network, made.images)
    return harm(logits, made.labels, shares_of(made.labels)), tally.theta


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("name", ENTRIES)
def test_at_equal_passes_the_optimised_search_is_not_weaker_than_the_worst_draw(name, task):
    found = {
        search: [harms(name, search, task, seed)[0] for seed in range(4)]
        for search in ("random", "worst", "optimised")
    }
    drawn, worst, optimised = (torch.cat(each) for each in found.values())
    assert (worst >= drawn - 1e-6).all()
    assert float(optimised.mean()) >= float(worst.mean()) - 1e-6


def test_a_draw_is_the_same_in_every_search():
    """Worst of few draws is among the worst of more, and the start of the climb is the worst of half."""
    few, _ = harms("bias_field_search", "worst", Task.CLASSIFICATION, 0, passes=5)
    many, _ = harms("bias_field_search", "worst", Task.CLASSIFICATION, 0, passes=20)
    climbed, _ = harms("bias_field_search", "optimised", Task.CLASSIFICATION, 0, passes=10)
    assert (many >= few - 1e-6).all()
    assert (climbed >= few - 1e-6).all()


class Backwards(torch.autograd.Function):
    """The image as it is, with a gradient that leads the wrong way."""

    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


@pytest.mark.parametrize("name", ["contrast_search", "bias_field_search"])
def test_a_gradient_that_leads_astray_costs_half_of_the_passes_that_are_left(name):
    """Draws 1 to 5, then 7 and 9 in place of steps that failed: so at least the worst of these seven."""
    task = Task.CLASSIFICATION
    network = make_network(task, channels=3)
    images, labels = make_batch(task, network, n=4, channels=3, space=(24, 24))
    size = harms(name, "random", task, 0)[1].shape[1]
    draws = [np.random.default_rng([0, number]).uniform(-1, 1, (10, size)) for number in range(4)]
    asked = request({"name": name, "search": "random"}, task)
    drawn = [
        moved(asked, images, labels, found=torch.from_numpy(np.stack(each)).float()).images
        for each in zip(*draws, strict=True)
    ]
    seen = torch.stack([harm(predict(network, each), labels, shares_of(labels)) for each in drawn])
    found, _ = harms(
        name, "optimised", task, 0, wrap=lambda network: lambda images: network(Backwards.apply(images))
    )
    assert (found >= seen[[0, 1, 2, 3, 4, 6, 8]].amax(0) - 1e-6).all()


@pytest.mark.parametrize("search", ["worst", "optimised"])
@pytest.mark.parametrize("passes", [4, 7, 10])
def test_no_more_passes_than_asked_for(search, passes):
    task = Task.CLASSIFICATION
    network, seen = make_network(task), []
    images, labels = make_batch(task, network)
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    perturb(
        request({"name": "contrast_search", "search": search, "passes": passes}, task),
        network,
        images,
        labels,
    )
    assert seen == [3] * passes


def test_a_random_draw_asks_no_network():
    images = pictures()
    label = torch.zeros(3, dtype=torch.int64)
    for entry in TRANSFORMS:
        asked = request({"name": entry.name, "search": "random"}, Task.CLASSIFICATION)
        assert moved(asked, images, label).images.shape == images.shape
        assert entry.is_gradient_free(asked.parameters)


def test_a_search_without_a_network_is_refused():
    with pytest.raises(ValueError, match="model: a search needs a network, got None"):
        make(ENTRIES["bias_field_search"], pictures(), search="worst")
    with pytest.raises(ValueError, match=r"found: must be of shape \(3, 49\), got \(3, 4\)"):
        make(ENTRIES["bias_field_search"], pictures(), theta=torch.zeros(3, 4))


@pytest.mark.parametrize("name", ENTRIES)
def test_an_image_alone_is_searched_as_in_a_batch(name):
    task = Task.SEGMENTATION
    network = make_network(task, channels=3)
    images, labels = make_batch(task, network, n=3, channels=3, space=(20, 20))
    asked, tally = request({"name": name, "passes": 6}, task), Tally()
    moved(asked, images, labels, network, rngs=make_rngs(3), tally=tally)
    together = tally.theta
    for number in range(3):
        one = slice(number, number + 1)
        moved(asked, images[one], labels[one], network, rngs=make_rngs(3)[one], tally=tally)
        assert torch.allclose(tally.theta, together[one], atol=1e-3)


def test_volumes_have_every_transform_that_is_not_of_photographs():
    task = Task.SEGMENTATION
    network = make_network(task, dimensions=3)
    images, labels = make_batch(task, network, n=1, space=(8, 9, 7))
    for entry in TRANSFORMS:
        if 3 not in entry.dimensions:
            continue
        asked = request({"name": entry.name, "passes": 4, "strength": 0.5}, task)
        made = moved(asked, images, labels, network, rngs=make_rngs(1), spacing=(2.0, 1.0, 1.0))
        assert made.images.shape == images.shape
        assert made.labels.shape == labels.shape


def test_a_network_is_left_as_it_came():
    task = Task.CLASSIFICATION
    network = make_network(task)
    images, labels = make_batch(task, network)
    before = copy.deepcopy(network.train().state_dict())
    perturb(request("bias_field_search", task), network, images, labels)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


def test_a_list_of_searches_is_a_request_each():
    made = requests(
        {"name": "bias_field_search", "search": ["random", "worst"], "label": "coil"}, Task.SEGMENTATION
    )
    assert [each.label for each in made] == ["coil-random", "coil-worst"]
    assert {each.curve for each in made} == {"coil"}
    assert [each.parameters["search"] for each in made] == ["random", "worst"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"search": []}, "a list names each way to search once; got []"),
        ({"search": ["worst", "worst"]}, "a list names each way to search once"),
        ({"search": "best"}, "'random', 'worst' or 'optimised'; got 'best'"),
        ({"search": ["worst", "best"]}, "'random', 'worst' or 'optimised'; got 'best'"),
        ({"passes": 3}, "greater than or equal to 4; got 3"),
        ({"strength": -0.1}, "greater than or equal to 0"),
        ({"step": 0}, "greater than 0"),
        ({"strength": {"ssim": 0.9}}, "must be a number"),
        ({"passes": [4, 8]}, "takes no list"),
        ({"strength": [0.1, 0.3]}, "another strength is an item of its own, with a `label`"),
        ({"strength": [0.1, 0.3], "search": ["worst"]}, "strength: Input should be a valid number"),
    ],
)
def test_what_cannot_be_asked_for(item, message):
    with pytest.raises(StudyError, match=message.replace("[", r"\[").replace("(", r"\(")):
        requests({"name": "bias_field_search", **item}, Task.SEGMENTATION)


def test_suites_name_transforms_that_exist():
    assert {name for names in TRANSFORM_SUITES.values() for name in names} == set(ENTRIES)
    for entry in TRANSFORMS:
        assert replace(entry).role == "transform"
