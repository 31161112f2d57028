import math

import numpy as np
import pytest
import torch

import own_perturbations
from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.metrics.similarity import ssim
from medrobust.perturbations import add_noise, gaussian, match_noise, perturb, random_signs, request, rician
from medrobust.perturbations.request import Drawn
from medrobust.rng import generator

FUNCTIONS = {"gaussian": gaussian, "rician": rician}
OWN = {"load": "own_perturbations:grain", "power": 0.5}
CONTROLS = ["gaussian", "rician", "random_signs", own_perturbations.stripes, OWN]
LABELS = torch.zeros(6, dtype=torch.int64)
both = pytest.mark.parametrize("name", FUNCTIONS)
every = pytest.mark.parametrize(
    "control", CONTROLS, ids=["gaussian", "rician", "random_signs", "stripes", "grain"]
)


def asked(control):
    return request(control, Task.CLASSIFICATION, control=True)


def make_images(n=6, seed=0):
    smooth = torch.nn.functional.avg_pool2d(
        torch.rand(n, 2, 40, 44, generator=torch.Generator().manual_seed(seed)), 9, 1
    )
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def make_rngs(n=6, first=0):
    return [generator(0, "noise", number) for number in range(first, first + n)]


def disc(images):
    support = torch.zeros_like(images[:, :1], dtype=torch.bool)
    support[:, :, 6:26, 8:30] = True
    return support


@every
@pytest.mark.parametrize("on_support", [False, True])
def test_matched_noise_has_the_wanted_ssim(control, on_support):
    images = make_images()
    support = disc(images) if on_support else None
    goal = torch.tensor([0.9999, 0.999, 0.98, 0.93, 0.7, 0.999999])
    rngs = make_rngs()
    solution = match_noise(asked(control), images, LABELS, goal, support=support, rngs=rngs)
    # The same generators, not yet used, give the noise that was solved for.
    made = add_noise(asked(control), images, LABELS, solution.strength, support=support, rngs=rngs)
    achieved = ssim(images, made, support)
    assert torch.allclose(achieved, solution.ssim, atol=1e-6)
    tolerance = (0.05 * (1 - goal)).clamp_min(1e-5)
    assert ((achieved - goal).abs() <= tolerance + 1e-7).all()
    assert solution.reached.all()
    assert (solution.strength > 0).all()


@every
def test_an_image_that_the_attack_left_unchanged_gets_no_noise(control):
    images = make_images()
    goal = torch.tensor([1.0, 0.95, torch.nan, 1.0, 0.9, 1.0])
    solution = match_noise(asked(control), images, LABELS, goal, rngs=make_rngs())
    assert (solution.strength == 0).tolist() == [True, False, True, True, False, True]
    assert solution.ssim[0] == 1
    assert solution.ssim[2].isnan()
    assert solution.reached.all()
    made = add_noise(asked(control), images, LABELS, solution.strength, rngs=make_rngs())
    assert [torch.equal(one, other) for one, other in zip(made, images, strict=True)] == [
        True,
        False,
        True,
        True,
        False,
        True,
    ]


@every
def test_where_no_attack_changed_anything_there_is_nothing_to_solve(control):
    solution = match_noise(asked(control), make_images(), LABELS, torch.ones(6), rngs=make_rngs())
    assert not solution.strength.any()
    assert solution.reached.all()


@every
def test_an_ssim_out_of_reach_is_flagged(control):
    images = make_images(2)
    solution = match_noise(asked(control), images, LABELS[:2], torch.tensor([-0.9, 0.95]), rngs=make_rngs(2))
    assert solution.reached.tolist() == [False, True]
    assert 0.5 < solution.strength[0] <= (2 if control is OWN else 10)
    assert solution.ssim[0] > -0.9


@every
def test_matching_does_not_depend_on_the_batch(control):
    images, goal = make_images(), torch.linspace(0.9, 0.99, 6)
    together = match_noise(asked(control), images, LABELS, goal, rngs=make_rngs())
    for place in range(6):
        one = slice(place, place + 1)
        alone = match_noise(
            asked(control), images[one], LABELS[one], goal[one], rngs=make_rngs(1, first=place)
        )
        assert alone.strength.item() == pytest.approx(together.strength[place].item(), rel=1e-4)


@both
def test_strength_scales_one_pattern(name):
    images = torch.full((6, 2, 12, 12), 0.5)
    weak, strong = (FUNCTIONS[name](None, images, LABELS, rngs=make_rngs(), strength=s) for s in (1e-4, 2e-4))
    assert torch.allclose(2 * (weak - images), strong - images, atol=2e-6)
    each = add_noise(asked(name), images, LABELS, torch.tensor([1e-4, 2e-4] * 3), rngs=make_rngs())
    assert torch.equal(each[::2], weak[::2])
    assert torch.equal(each[1::2], strong[1::2])


def test_random_signs_go_to_a_corner_of_the_budget():
    images = make_images()
    images[0, 0, 0] = torch.tensor([0.0, 1.0]).repeat(18)
    made = random_signs(None, images, LABELS, rngs=make_rngs(), eps=0.05)
    up, down = (images + 0.05).clamp(0, 1), (images - 0.05).clamp(0, 1)
    assert ((made == up) | (made == down)).all()
    inside = ((images > 0.05) & (images < 0.95)).nonzero(as_tuple=True)
    raised = (made > images)[inside].double()
    assert abs(raised.mean() - 0.5) < 4 * 0.5 / math.sqrt(len(raised))
    assert torch.equal(random_signs(None, images, LABELS, eps=0.0), images)
    with pytest.raises(ValueError, match=r"eps: must be a number of at least 0, got -0\.1"):
        random_signs(None, images, LABELS, eps=-0.1)


@both
@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_wrong_strength_is_refused(name, strength):
    with pytest.raises(ValueError, match=f"strength: must be a number of at least 0, got {strength}"):
        FUNCTIONS[name](None, make_images(), LABELS, rngs=make_rngs(), strength=strength)


@both
def test_generators_are_one_per_image_or_those_of_seed_0(name):
    with pytest.raises(ValueError, match="one generator per image, 6 in all, got 2; leave it out"):
        FUNCTIONS[name](None, make_images(), LABELS, rngs=make_rngs(2), strength=0.1)
    left_out, seed_0 = (
        FUNCTIONS[name](None, make_images(), LABELS, rngs=rngs, strength=0.1)
        for rngs in (None, [generator(0, "image", place) for place in range(6)])
    )
    assert torch.equal(left_out, seed_0)


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ("gausian", r"noise: Unknown perturbation 'gausian'\. Did you mean 'gaussian'"),
        ("fgsm", "'fgsm' is not declared to be noise; gaussian, rician, random_signs are, and a function"),
        (own_perturbations.step_along_the_sign, r'noise: .* `@perturbation\(role="noise"'),
        ({"name": "gaussian", "strength": 0.1}, "noise.gaussian: .* so it takes no strength. Leave it out"),
        (OWN | {"level": 0.1}, "noise.own_perturbations:grain: .* so it takes no level. Leave it out"),
        (own_perturbations.steps_only, "must be a parameter of type float; 'own_perturbations:steps_only'"),
        (OWN | {"powr": 1}, r"noise.own_perturbations:grain: Unknown key 'powr'\. Did you mean 'power'"),
    ],
)
def test_what_cannot_be_a_control(control, message):
    with pytest.raises(StudyError, match=message):
        asked(control)


def test_what_is_drawn_once_is_drawn_again() -> None:
    rng = generator(0, "drawn")
    drawn = Drawn(rng)
    first = drawn.standard_normal((2, 3), dtype=np.float32)
    assert drawn.standard_normal((2, 3), dtype=np.float32) is first
    np.testing.assert_array_equal(first, generator(0, "drawn").standard_normal((2, 3), dtype=np.float32))
    np.testing.assert_array_equal(rng.random(4), generator(0, "drawn").random(4))


@pytest.mark.parametrize("name", ["gaussian", "rician"])
def test_noise_of_many_strengths_is_that_of_each_image(name: str) -> None:
    images = torch.rand(5, 2, 24, 21, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(5, dtype=torch.int64)
    support = torch.rand(5, 1, 24, 21, generator=torch.Generator().manual_seed(1)) < 0.7
    noise = request({"name": name}, Task.CLASSIFICATION, control=True)
    goal = torch.tensor([0.9, 1.0, 0.95, math.nan, 0.999])
    rngs = [generator(0, "counted", place) for place in range(5)]
    solved = match_noise(noise, images, labels, goal, support=support, rngs=rngs)
    assert (solved.strength > 0).tolist() == [True, False, True, False, True]
    together = add_noise(noise, images, labels, solved.strength, support=support, rngs=rngs)
    for place in range(5):
        one = slice(place, place + 1)
        alone = perturb(
            noise.with_budget(float(solved.strength[place])),
            None,
            images[one],
            labels[one],
            support=support[one],
            rngs=[generator(0, "counted", place)],
        )
        assert torch.equal(together[one], alone)
    with pytest.raises(ValueError, match="one for each of 5 images"):
        gaussian(None, images, labels, strength=torch.ones(4))
