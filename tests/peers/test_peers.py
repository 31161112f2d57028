"""The attacks against other libraries': the same budgets, the same images.

Skipped where a library is not installed; `make bench-test` installs them all.
"""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fitted_networks import fine, fit_classifier, fit_segmenter, sharp
from made_studies import BRAINS, LESIONS
from medrobust.data import open_dataset
from medrobust.metrics.similarity import l2
from medrobust.perturbations import (
    Tally,
    alma_prox,
    dag,
    ddn,
    deepfool,
    fgsm,
    fmn,
    pdpgd,
    saliency_map,
    sigma_zero,
)
from medrobust.perturbations.attacks.nearest import sizes
from medrobust.perturbations.targets import all_background, scattered
from medrobust.rng import generator
from medrobust.running.batches import stack
from peer_attacks import PEERS

# Peers warn of their own old dependencies.
pytestmark = pytest.mark.filterwarnings("ignore")

CPU = torch.device("cpu")


def peers(attack):
    return pytest.mark.parametrize("library", list(PEERS[attack]))


def peer(attack, library):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed; run `make bench-setup`")
    return PEERS[attack][library]


class Curved(nn.Module):
    """A classifier of lesions whose boundaries are bent: DeepFool needs several steps."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        with torch.random.fork_rng():
            torch.manual_seed(0)
            first, last = nn.Conv2d(3, 8, 5, stride=2), nn.Linear(8 * 14 * 14, 10)
        self.bend = nn.Sequential(first, nn.Tanh(), nn.Flatten(), last)

    def forward(self, images):
        return self.linear(images) + 2 * torch.tanh(self.bend(20 * images - 10))


@pytest.fixture(scope="module")
def lesions(tmp_path_factory):
    """A classifier and 30 images that it gets right."""
    dataset = open_dataset(LESIONS, tmp_path_factory.mktemp("lesions"), None)
    network = Curved(fit_classifier(fine(10, 3), dataset, dataset.cases[::2])).eval()
    batch = stack(dataset, dataset.cases[1::2], CPU)
    with torch.no_grad():
        right = (network(batch.images).argmax(1) == batch.labels).nonzero()[:30, 0]
    assert len(right) == 30
    return SimpleNamespace(network=network, images=batch.images[right], labels=batch.labels[right])


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """A segmenter and slices of a subject that it was not fitted on."""
    dataset = open_dataset(BRAINS, tmp_path_factory.mktemp("brains"), None)
    own, other = (
        [case for case in dataset.cases if case.patient_id == patient]
        for patient in sorted({case.patient_id for case in dataset.cases})[:2]
    )
    network = fit_segmenter(sharp(28), dataset, own).eval()
    batch = stack(dataset, other[:: len(other) // 5][:5], CPU)
    return SimpleNamespace(network=network, images=batch.images, labels=batch.labels)


@peers("fgsm")
@pytest.mark.parametrize("eps", [1 / 255, 8 / 255, 0.3])
def test_fgsm_equals_its_peers(lesions, library, eps):
    theirs = peer("fgsm", library)(lesions.network, lesions.images, lesions.labels, eps=eps)
    ours = fgsm(lesions.network, lesions.images, lesions.labels, eps=eps)
    assert (ours - theirs).abs().max() <= 1e-6


@peers("deepfool")
def test_deepfool_is_no_longer_than_its_peers(lesions, library):
    arguments = (lesions.network, lesions.images, lesions.labels)
    tally = Tally()
    ours = deepfool(*arguments, tally=tally)
    assert tally.steps.float().mean() > 1.3  # the boundaries are bent
    theirs = peer("deepfool", library)(*arguments)
    fooled = lesions.network(theirs).argmax(1) != lesions.labels
    if library != "art":  # whose steps end before the boundary now and then
        assert fooled.all()
    assert (lesions.network(ours).argmax(1) != lesions.labels).all()
    ratio = (l2(lesions.images, ours) / l2(lesions.images, theirs))[fooled]
    assert ratio.max() <= 1.01
    assert ratio.median() <= 1


@peers("deepfool")
def test_deepfool_is_no_longer_than_its_peers_where_entries_are_black_or_white(lesions, library):
    network = lesions.network
    images = (2 * lesions.images - 0.5).clamp(0, 1)
    labels = network(images).argmax(1)
    theirs = peer("deepfool", library)(network, images, labels)
    fooled = network(theirs).argmax(1) != labels
    if library != "torchattacks":  # which gives half of them up where steps are cut off
        assert fooled.float().mean() > 0.9
    ratio = (l2(images, deepfool(network, images, labels)) / l2(images, theirs))[fooled]
    assert ratio.max() <= 1.01
    assert ratio.median() <= 1
    if library == "foolbox":
        published = l2(images, deepfool(network, images, labels, preset="moosavi-2016"))
        assert torch.allclose((published / l2(images, theirs))[fooled], torch.ones(()), atol=1e-3)


class Watched(nn.Module):
    """Writes down the images that a network is shown."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.network(images)


@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("kind", ["a", "b"])
@pytest.mark.parametrize("step", [2 / 255, 16 / 255])
def test_dag_takes_the_steps_of_adv_lib(brains, norm, kind, step):
    """Every image that the network is shown is the same, so active pixels, their rivals and steps are."""
    attack, (network, images, labels) = peer("dag", "adv_lib"), vars(brains).values()
    images = 0.1 + 0.8 * images  # whether clipping passes a gradient at 0 and 1 depends on PyTorch's version
    rngs = [generator(0, place) for place in range(len(images))]
    targets = all_background(labels) if kind == "a" else scattered(labels, rngs=rngs, share=0.2)
    step = step if norm == "inf" else 20 * step
    options = {"targets": targets, "step": step, "steps": 12, "norm": norm, "stop_share": 0.0}
    theirs, ours = Watched(network), Watched(network)
    attack(theirs, images, labels, **options)
    dag(ours, images, labels, preset="adv-lib", **options)
    assert len(theirs.seen) == 12
    for mine, other in zip(ours.seen, theirs.seen, strict=False):
        assert mine.shape == other.shape
        assert (mine - other).abs().max() <= 1e-5
    # Where no gradient is left, adv-lib goes on without moving.
    for other in theirs.seen[len(ours.seen) :]:
        assert torch.equal(other, theirs.seen[-1])


def test_dag_stops_where_adv_lib_does(brains):
    """The preset counts the pixels to be changed; where these are all of them, both stop at once."""
    attack, (network, images, _) = peer("dag", "adv_lib"), vars(brains).values()
    images = 0.1 + 0.8 * images  # as above
    with torch.no_grad():
        labels, targets = network(images).topk(2, dim=1).indices.unbind(1)
    options = {"targets": targets, "step": 4 / 255, "steps": 60, "stop_share": 0.4}
    theirs, ours = Watched(network), Watched(network)
    attack(theirs, images, labels, **options)
    dag(ours, images, labels, preset="adv-lib", **options)
    assert [len(seen) for seen in ours.seen] == [len(seen) for seen in theirs.seen]
    assert len(ours.seen) < 60


def smallest(network, images, labels, made, norm, share=1.0):
    """The size of each change; infinite where it does not fool the network in a pass of its own."""
    with torch.no_grad():
        wrong = (network(made).argmax(1) != labels).float().reshape(len(labels), -1).mean(1)
    return torch.where(wrong >= share, sizes(made - images, norm), torch.inf)


@peers("fmn")
@pytest.mark.parametrize("norm", ["inf", "2", "1", "0"])
def test_fmn_is_no_larger_than_its_peers(lesions, library, norm):
    theirs = peer("fmn", library)(lesions.network, lesions.images, lesions.labels, norm=norm)
    ours = fmn(lesions.network, lesions.images, lesions.labels, norm=norm)
    mine, other = (smallest(*vars(lesions).values(), made, norm) for made in (ours, theirs))
    assert mine.isfinite().all()
    assert mine.median() <= 1.0005 * other.median()
    assert mine.mean() <= 1.0005 * other.mean()


@pytest.mark.parametrize(("norm", "tolerance"), [("inf", 1e-5), ("2", 2e-4), ("0", 0)])
def test_fmn_takes_the_steps_of_adv_lib(lesions, norm, tolerance):
    """But for the lead that we ask of a wrong logit beyond a tie."""
    attack = peer("fmn", "adv_lib")
    theirs, ours = Watched(lesions.network), Watched(lesions.network)
    attack(theirs, lesions.images, lesions.labels, norm=norm, steps=4)
    fmn(ours, lesions.images, lesions.labels, norm=norm, steps=4, preset="pintor-2021")
    for mine, other in zip(ours.seen[1:3], theirs.seen[:2], strict=True):  # before them, we look who is right
        assert torch.allclose(
            sizes(mine - lesions.images, norm), sizes(other - lesions.images, norm), rtol=0, atol=tolerance
        )


@peers("ddn")
def test_ddn_is_no_larger_than_its_peers(lesions, library):
    theirs = peer("ddn", library)(lesions.network, lesions.images, lesions.labels)
    ours = ddn(lesions.network, lesions.images, lesions.labels)
    as_published = ddn(lesions.network, lesions.images, lesions.labels, preset="rony-2019")
    mine, published, other = (
        smallest(*vars(lesions).values(), made, "2") for made in (ours, as_published, theirs)
    )
    assert mine.median() <= other.median()
    if library == "adv_lib":
        assert ((published / other - 1).abs() <= 0.02).float().mean() >= 0.9


def test_sigma_zero_changes_fewer_entries_than_its_peers_and_the_saliency_map(lesions):
    arguments = tuple(vars(lesions).values())
    theirs = peer("sigma_zero", "adv_lib")(*arguments)
    mine, other, saliency = (
        smallest(*arguments, made, "0") for made in (sigma_zero(*arguments), theirs, saliency_map(*arguments))
    )
    assert mine.median() <= other.median()
    assert mine.mean() <= other.mean()
    assert mine.median() <= 0.5 * saliency.median()


class Patches(nn.Module):
    """A segmenter with random weights: all of an image's pixels can be turned by a few hundredths."""

    def __init__(self, classes, images):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(classes)
            first, last = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, classes, 3, padding=1)
        self.body = nn.Sequential(first, nn.Tanh(), last)
        with torch.no_grad():
            for layer in (first, last):
                layer.weight.mul_(3**0.5)
                layer.bias.zero_()
            last.bias.sub_(self(images).movedim(1, 0).flatten(1).mean(1))

    def forward(self, images):
        return self.body(4 * images - 2)


def patches(classes):
    """A network, images, and what it says of them."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(5, 3, 4, 4, generator=draw)
    images = 0.42 + 0.16 * nn.functional.interpolate(images, size=(16, 18), mode="bilinear")
    network = Patches(classes, images).eval()
    with torch.no_grad():
        return network, images, network(images).argmax(1)


@pytest.mark.parametrize("attack", [alma_prox, pdpgd])
def test_smallest_changes_of_segmentations_are_no_larger_than_those_of_peers(attack):
    """Of four classes, with the threshold at 99 %; images that an attack does not get there are infinite."""
    arguments, share = patches(4), 0.99
    theirs = peer(attack.__name__, "adv_lib")(*arguments)
    by_dag = peer("untargeted_dag", "adv_lib")(*arguments)
    mine, other, dag_size = (
        smallest(*arguments, made, "inf", share) for made in (attack(*arguments), theirs, by_dag)
    )
    assert mine.isfinite().all()
    assert mine.median() <= 1.05 * other.median()
    assert mine.median() < dag_size.median() or attack is pdpgd
    assert (mine <= 1.001 * dag_size).float().mean() >= 0.8


def test_alma_prox_runs_on_two_classes_where_adv_lib_fails():
    arguments = patches(2)
    assert smallest(*arguments, alma_prox(*arguments), "inf", 0.99).isfinite().all()
    with pytest.raises(RuntimeError, match="out of range"):
        peer("alma_prox", "adv_lib")(*arguments)
