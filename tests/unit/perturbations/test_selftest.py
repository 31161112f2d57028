"""Self-tests: healthy networks and attacks pass, and every fault is caught by the check meant for it."""

import copy
import functools
import inspect
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fitted_networks import fine, fit_classifier, fit_findings, fit_segmenter, sharp
from made_studies import BRAINS, CHESTS, LESIONS
from medrobust.core import Task
from medrobust.data import open_dataset
from medrobust.models import Network
from medrobust.models.network import last_layer_input
from medrobust.perturbations import PERTURBATIONS, aimed, fgsm, pgd, request, support_of
from medrobust.perturbations.checks import task_of
from medrobust.perturbations.geometry import Ball
from medrobust.perturbations.selftest import CHECKS, passes, selftest
from medrobust.perturbations.selftest import binarisation as binary
from medrobust.perturbations.selftest.checks import shuffled
from medrobust.perturbations.selftest.probe import Outcome, Probe, plausible
from medrobust.rng import generator

PHOTO, SLICE = Task.CLASSIFICATION, Task.SEGMENTATION
NETWORK = {"deterministic", "logits", "gradients"}
APPLY = {
    "fgsm": {"noise", "budget"},
    "deepfool": {"noise", "steps"},
    "saliency_map": {"noise", "steps"},
    "fmn": {"noise", "steps"},
    "ddn": {"noise", "steps"},
    "sigma_zero": {"noise", "steps"},
    "alma_prox": {"noise", "steps"},
    "pdpgd": {"noise", "steps"},
    "dag_a": {"noise", "steps", "chance"},
    "dag_b": {"noise", "steps", "chance"},
    "dag_c": {"noise", "steps", "chance"},
    "pgd": {"noise", "budget", "steps", "chance", "scores", "binarisation"},
    "mi_fgsm": {"noise", "budget", "steps", "chance", "scores", "binarisation"},
    "segpgd": {"noise", "budget", "steps", "chance"},
    "apgd": {"noise", "budget", "steps", "chance", "scores", "binarisation"},
    "cospgd": {"noise", "budget", "steps", "chance"},
    "sea": {"noise", "budget", "steps", "chance"},
    "fab": {"noise", "steps"},
    "square": {"noise", "budget", "steps", "chance"},
    "rays": {"noise", "budget", "steps", "chance"},
    "hopskipjump": {"noise", "steps"},
    "worst_case": {"noise", "budget", "steps", "chance", "scores", "binarisation"},
}
SMALL = {
    "saliency_map": {"steps": 200, "entries_per_step": 8},
    "sea": {"steps": 12, "losses": ("dice", "masked_cross_entropy")},
    "fab": {"steps": 12},
    "square": {"steps": 60},
    "rays": {"steps": 60},
    "hopskipjump": {"steps": 4, "draws": 20},
    "apgd": {"steps": 20},
    "alma_prox": {"steps": 25},
    "pdpgd": {"steps": 25, "start": "clean"},
    "worst_case": {"steps": 10, "candidates": 2, "boundary_steps": 2, "queries": 5},
} | {name: {"step": "8/255", "steps": 10} for name in ("dag_a", "dag_b", "dag_c")}


class Featured(nn.Module):
    """A network and what its last layer sees."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, images):
        return self.body(images)

    def features(self, images):
        return last_layer_input(self.body, images)


def batch(dataset, cases):
    samples = [dataset.read(case) for case in cases]
    return tuple(torch.from_numpy(np.stack(tensors)) for tensors in zip(*samples, strict=True))


@pytest.fixture(scope="module")
def photos():
    """A fitted classifier, and images that it gets right."""
    dataset = open_dataset(LESIONS, None, None)
    network = Featured(fit_classifier(fine(10, 3), dataset, dataset.cases[:120])).eval()
    images, labels = batch(dataset, dataset.cases[120:180])
    right = (network(images).argmax(1) == labels).nonzero()[:8, 0]
    assert len(right) == 8
    return network, images[right], labels[right]


@pytest.fixture(scope="module")
def chests():
    """A fitted network for several findings, and images of which it gets most right."""
    dataset = open_dataset(CHESTS, None, None)
    network = Network(fit_findings(fine(4, 1), dataset, dataset.cases[:160]), findings=True).eval()
    return network, *batch(dataset, dataset.cases[160:168])


@pytest.fixture(scope="module")
def slices():
    """A fitted segmenter, and slices of another brain."""
    dataset = open_dataset(BRAINS, None, None)
    patients = sorted({case.patient_id for case in dataset.cases})
    of = [[case for case in dataset.cases if case.patient_id == patient] for patient in patients[:2]]
    network = fit_segmenter(sharp(28), dataset, of[0]).eval()
    return network, *batch(dataset, of[1][8:-8:3][:8])


def asked(name, task, **parameters):
    entry = PERTURBATIONS[name]
    given = {entry.budget: 0.02} if entry.budget else {}
    if entry.one_finding and task is Task.MULTILABEL:
        given["finding"] = 0
    return request({"name": name, **given, **SMALL.get(name, {}), **parameters}, task)


def checks_of(name, case, **parameters):
    network, images, labels = case
    task = task_of(labels)
    wanted = name if not isinstance(name, str) else asked(name, task, **parameters)
    if task is Task.MULTILABEL:
        labels = aimed(wanted, labels, [str(place) for place in range(labels.shape[1])])
    checks = selftest(wanted, network, images, labels, support=support_of(images))
    assert [check.name for check in checks] == list(CHECKS)
    return {check.name: check for check in checks}


def failed(checks):
    return {name for name, check in checks.items() if check.passed is False}


def passed(checks):
    return {name for name, check in checks.items() if check.passed}


SLOW = [pytest.mark.slow]
every_attack = pytest.mark.parametrize(
    ("name", "task"),
    [
        # Several findings go the way of classes; what is common to all attacks is tried with one of them.
        pytest.param(
            name, task, id=f"{name}-{task}", marks=SLOW * (task is Task.MULTILABEL and name != "pgd")
        )
        for name, entry in PERTURBATIONS.items()
        for task in entry.tasks
        if entry.role == "attack" and entry.fits is None  # one change for all is not tested
    ],
)


@every_attack
def test_a_healthy_network_passes_all_checks_that_apply(name, task, photos, chests, slices):
    checks = checks_of(name, {PHOTO: photos, Task.MULTILABEL: chests, SLICE: slices}[task])
    applies = APPLY[name] - (set() if task is PHOTO else {"binarisation", "scores"})
    assert failed(checks) == set(), checks
    network = NETWORK - (set() if PERTURBATIONS[name].needs == "gradient" else {"gradients"})
    assert passed(checks) == network | applies
    assert all(check.seen.endswith(".") for check in checks.values())
    assert all(check.value is not None for check in checks.values() if check.passed is not None)
    assert passes(asked(name, task), task) > 3


def test_a_name_is_enough_and_its_budget_is_solved(photos):
    network, images, labels = photos
    checks = selftest("fgsm", network, images, labels)
    assert failed({check.name: check for check in checks}) == set()
    assert "eps = 0.00" in next(check.seen for check in checks if check.name == "budget")


class Rounded(Featured):
    """Its input is rounded, which has no gradient."""

    def forward(self, images):
        return super().forward((images * 8).round() / 8)


class Loud(Featured):
    """Logits so large that the softmax is exactly 1."""

    scale = 1e4

    def forward(self, images):
        return self.scale * super().forward(images)


class Misleading(Featured):
    """Its gradient points the wrong way."""

    def forward(self, images):
        return super().forward(2 * images.detach() - images)


class Faint(Loud):
    """Logits so small that their squares vanish."""

    scale = 1e-24


class Dark(Featured):
    """One pixel, always black, under a root."""

    def forward(self, images):
        edge = (images * (torch.arange(images.shape[-1]) > 0)).sqrt()[..., 0].mean((1, 2))
        return super().forward(images) + 1e-6 * edge[:, None]


class Random(Featured):
    """Noise in every pass."""

    def __init__(self, body):
        super().__init__(body)
        self.rng = np.random.default_rng(0)

    def forward(self, images):
        noise = self.rng.standard_normal(tuple(images.shape), dtype=np.float32)
        return super().forward(images + 0.02 * torch.from_numpy(noise))


class Mixing(Featured):
    """Images are normalised by statistics of their batch."""

    def forward(self, images):
        return super().forward(functional.batch_norm(images, None, None, training=True))


class Sociable(Featured):
    """Never sees one image alone."""

    def forward(self, images):
        if len(images) == 1:
            raise ValueError("Expected more than 1 value per channel")
        return super().forward(images)


class Probabilities(Featured):
    def forward(self, images):
        return super().forward(images).softmax(1)


class Rooted(Featured):
    """A root at 0 has an infinite slope."""

    def forward(self, images):
        return super().forward(images) + (images - images).sqrt().mean()


class Detached(Featured):
    def forward(self, images):
        return super().forward(images).detach()


class Diverged(Featured):
    def forward(self, images):
        return super().forward(images) / 0.0


@pytest.mark.parametrize(
    ("kind", "check", "said"),
    [
        (Rounded, "gradients", "zero everywhere: attacks cannot see where to go"),
        (Rooted, "gradients", "100 % of the gradient's entries are not finite. Look for a root"),
        (Detached, "gradients", "cannot be differentiated"),
        (Random, "deterministic", "the network is random even in evaluation mode"),
        (Mixing, "deterministic", "depends on the other images of its batch: alone, logits differ by up to"),
        (
            Sociable,
            "deterministic",
            "An image alone is refused. The network cannot be run on images of shape",
        ),
        (Probabilities, "logits", "Return the input of the softmax"),
        (Diverged, "logits", "are not finite. Its weights may have diverged"),
    ],
)
def test_a_faulty_network_is_caught_by_the_check_meant_for_it(kind, check, said, photos):
    network, images, labels = photos
    checks = checks_of("pgd", (kind(network.body).eval(), images, labels))
    assert failed(checks) == {check}
    assert said in checks[check].seen
    left = set(CHECKS) - NETWORK
    assert {checks[name].seen for name in left} == {f"Not run, because the network fails: {check}."}


@pytest.mark.parametrize("kind", [Loud, Faint])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_the_size_of_logits_stops_no_attack(kind, loss, photos):
    network, images, labels = photos
    assert failed(checks_of("pgd", (kind(network.body).eval(), images, labels), loss=loss)) == set()


def test_a_few_gradients_that_are_not_finite_are_told(photos):
    network, images, labels = photos
    checks = checks_of("pgd", (Dark(network.body).eval(), images, labels))
    assert failed(checks) == set()
    assert re.fullmatch(
        r"3\.\d+ % of the gradient's entries are not finite, like those of a root at 0; attacks ignore "
        r"them; it is zero for 0 % of the images\.",
        checks["gradients"].seen,
    )


def broken(name, function, task=PHOTO, **parameters):
    """A request for the catalogue's attack with a broken function."""
    entry = PERTURBATIONS[name]
    wrapped = functools.wraps(entry.function)(function)
    return replace(asked(name, task, **parameters), perturbation=replace(entry, function=wrapped))


def uphill(model, images, labels, **parameters):
    """The sign is wrong: the network becomes surer of the truth."""
    return pgd(lambda images: -model(images), images, labels, **parameters)


def deaf(model, images, labels, *, eps, **parameters):
    """Whatever the budget, it is 0.02."""
    return fgsm(model, images, labels, eps=0.02, **parameters)


def timid(model, images, labels, *, eps, **parameters):
    """Stays near the clean image however large the budget."""
    return pgd(model, images, labels, eps=min(eps, 0.02), **parameters)


def test_an_attack_with_the_wrong_sign_does_less_than_noise(photos):
    checks = checks_of(broken("pgd", uphill), photos)
    assert failed(checks) == {"noise", "budget", "chance", "binarisation"}
    assert "it does no more than noise of the same size" in checks["noise"].seen


def test_a_network_whose_gradients_lie_falls_to_a_search_by_scores(photos):
    network, images, labels = photos
    checks = checks_of("pgd", (Misleading(network.body).eval(), images, labels), eps=0.06)
    assert "scores" in failed(checks)
    assert "gradients lead it astray, which is the sign of a masked gradient" in checks["scores"].seen


def test_an_attack_made_to_transfer_is_no_match_for_a_search(photos):
    checks = checks_of("mi_fgsm", photos, eps=0.06, transfer=["di"])
    assert checks["scores"].passed is None
    assert "does not follow the gradient of the images as they are" in checks["scores"].seen


def test_an_attack_that_ignores_its_budget_is_caught_by_the_budget(photos):
    checks = checks_of(broken("fgsm", deaf), photos)
    assert failed(checks) == {"budget"}
    assert "a larger budget does not help" in checks["budget"].seen


def test_a_single_step_may_overshoot_what_it_fools(photos):
    def overshooting(model, images, labels, *, eps, **parameters):
        return fgsm(model, images, labels, eps=0.03 - eps / 100, **parameters)

    checks = checks_of(broken("fgsm", overshooting), photos)
    assert failed(checks) == set()


def test_an_attack_that_cannot_leave_a_small_ball_does_not_reach_chance(photos):
    checks = checks_of(broken("pgd", timid, eps=0.005), photos)
    assert failed(checks) == {"chance"}
    assert "chance is 90 %: gradients lead it nowhere" in checks["chance"].seen


def test_more_steps_that_weaken_an_attack_are_caught(slices):
    def fading(model, images, labels, *, eps, steps, **parameters):
        faded = eps if eps > 0.5 else eps * 4 / steps
        return pgd(model, images, labels, eps=faded, steps=steps, **parameters)

    checks = checks_of(broken("pgd", fading, SLICE, eps=0.08), slices)
    assert failed(checks) == {"steps"}
    assert "more steps make it weaker by more than 2 %" in checks["steps"].seen


def test_an_attack_that_looks_at_another_network_fails_the_binarisation_test_only(photos):
    network, _, _ = photos

    def stale(model, images, labels, **parameters):
        return pgd(network, images, labels, **parameters)

    checks = checks_of(broken("pgd", stale), photos)
    assert failed(checks) == {"binarisation"}
    assert "it is too weak for this network" in checks["binarisation"].seen


def test_steps_too_short_to_cross_the_budget_are_caught(photos):
    checks = checks_of("pgd", photos, step=1e-5, random_start=False)
    assert failed(checks) == {"budget", "binarisation"}
    assert checks["binarisation"].value == 0
    assert "Give it more steps or restarts, or another step size" in checks["binarisation"].seen


def test_nothing_is_left_behind(photos):
    network, images, labels = photos
    before, state = images.clone(), torch.get_rng_state()
    network = Featured(nn.Sequential(nn.Dropout(0.5), network.body)).train()
    rngs = [generator(3, place) for place in range(8)]
    first = selftest(asked("pgd", PHOTO), network, images, labels, rngs=rngs)
    assert selftest(asked("pgd", PHOTO), network, images, labels, rngs=rngs) == first
    assert all(check.passed for check in first)
    assert [rng.random() for rng in rngs] == [generator(3, place).random() for place in range(8)]
    assert all(module.training for module in network.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def probe_of(case, name="fgsm", **parameters):
    network, images, labels = case
    task = PHOTO if labels.ndim == 1 else SLICE
    rngs = [generator(1, place) for place in range(len(images))]
    return Probe(asked(name, task, **parameters), network, images, labels, support_of(images), rngs, None)


def test_noise_has_the_norms_of_the_attack_and_stays_in_the_support(slices):
    probe = probe_of(slices)
    noise = shuffled(probe, probe.rngs) - probe.images
    change = probe.attacked - probe.images
    assert not torch.equal(noise, change)
    assert not noise[~probe.support].any()
    # Clipping takes from the noise what it takes from the attack.
    assert (noise.abs().amax((1, 2, 3)) <= change.abs().amax((1, 2, 3)) + 1e-6).all()
    ratio = noise.flatten(1).norm(dim=1) / change.flatten(1).norm(dim=1)
    assert (ratio > 0.9).all()
    assert (ratio <= 1 + 1e-6).all()


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_the_binarised_network_has_an_adversarial_example_within_the_budget(photos, norm):
    network, images, _ = photos
    support = torch.zeros_like(images[:1, :1], dtype=torch.bool)
    support[..., :20] = True
    ball = Ball(images[:1], support, 0.03 if norm == "inf" else 1.0, norm)
    inner, corner = binary._surroundings(ball, 40, generator(2))
    assert torch.equal(inner[0], images[0])
    changes = (torch.cat([inner, corner]) - images[:1]).flatten(1)
    sizes = changes.abs().amax(1) if norm == "inf" else changes.norm(dim=1)
    assert (sizes[:-1] <= 0.95 * ball.eps + 1e-6).all()
    assert sizes[-1] <= ball.eps + 1e-6
    assert sizes[-1] > 0.99 * ball.eps or norm == "2"
    assert not (torch.cat([inner, corner]) != images[:1]).logical_and(~support).any()
    model = binary._readout(network.features, inner, corner)
    assert model is not None
    assert model(inner).argmax(1).eq(0).all()
    assert model(corner).argmax(1).item() == 1
    assert model(torch.cat([inner, corner])).abs().max() <= 1 + 1e-4


def test_points_that_features_cannot_separate_make_no_test(photos):
    network, images, labels = photos
    blind = lambda images: images.mean((2, 3)).round() @ torch.ones(3, 20)  # noqa: E731
    checks = selftest(asked("pgd", PHOTO), network, images, labels, features=blind)
    assert checks[-1].passed is None
    assert "In no image could random points be separated" in checks[-1].seen
    few = selftest(asked("pgd", PHOTO), network, images, labels, features=lambda images: images.mean((2, 3)))
    assert few[-1].passed is None


def test_where_the_binarisation_test_says_nothing(photos):
    network, images, labels = photos
    assert "its last layer" in selftest(asked("pgd", PHOTO), network.body, images, labels)[-1].seen
    assert "One step" in checks_of("fgsm", photos)["binarisation"].seen
    assert "needs 3 classes" in checks_of("pgd", photos, loss="dlr")["binarisation"].seen


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (
            lambda images: images,
            r"Features must be one vector per image; those of one have the shape \(1, 3, ",
        ),
        ([16, 32], "The network does not give its features. .* not callable"),
    ],
)
def test_what_a_network_calls_features_need_not_be_vectors(features, said, photos):
    """Libraries call the maps before the head so, or a list of widths."""
    network, images, labels = photos
    network = copy.copy(network.body)
    object.__setattr__(network, "features", features)
    check = selftest(asked("pgd", PHOTO, steps=2), network, images, labels)[-1]
    assert (check.name, check.passed) == ("binarisation", None)
    assert re.search(said, check.seen)


def test_a_test_that_random_points_pass_is_too_easy():
    assert binary._judge(1.0, 0.75, 8)[0] is None
    assert binary._judge(0.5, 0.75, 8)[0] is False
    assert binary._judge(1.0, 0.5, 8)[0] is True


def test_few_images_allow_few_failures():
    assert [plausible(hits / 8, 8, 0.95) for hits in (8, 7, 6, 5)] == [True, True, True, False]
    assert [plausible(hits / 512, 512, 0.95) for hits in (512, 480, 470)] == [True, True, False]


def test_the_margin_decides_between_equals():
    def outcome(fooled, margin):
        return Outcome(torch.tensor(fooled), torch.tensor(fooled), torch.tensor(margin))

    weak, strong = outcome([1.0, 0.0], [1.0, -3.0]), outcome([1.0, 0.0], [2.0, -2.0])
    assert strong.beats(weak, 0.1)
    assert not weak.beats(strong, 0.1)
    assert not weak.beats(weak, 0.1)
    assert outcome([1.0, 1.0], [0.1, 0.1]).beats(strong, 0.1)
    assert not outcome([0.0, 0.0], [9.0, 9.0]).beats(strong, 0.1)


def test_slices_with_nothing_to_change_say_nothing(slices):
    network, images, labels = slices
    checks = checks_of("dag_a", (network, images, torch.zeros_like(labels)))
    assert failed(checks) == set()
    assert checks["noise"].seen == "There is nothing to change in these images."


def test_images_that_are_wrong_already_say_nothing_about_attacks_that_keep_them(photos):
    network, images, labels = photos
    checks = checks_of("deepfool", (network, images, (labels + 1) % 10))
    assert failed(checks) == set()
    assert checks["noise"].seen == "The network gets all of these wrong already."


def test_wrong_arguments_are_refused(photos):
    network, images, labels = photos
    with pytest.raises(ValueError, match="images: must be finite and lie in"):
        selftest("fgsm", network, images + 1, labels)
    assert "wanted:" in (inspect.getdoc(selftest) or "")
