"""Robust accuracy under the cascade, against the ensembles of other libraries; more of it: `make bench`."""

from functools import partial
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from fitted_networks import fine, fit_classifier
from made_studies import LESIONS
from medrobust.data import open_dataset
from medrobust.metrics.similarity import linf
from medrobust.perturbations import fab, square, worst_case
from medrobust.running.batches import stack
from peer_attacks import PEERS
from worst_case import withstood

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS, QUERIES = 20, 60


class Two(nn.Module):
    """The first five classes against the others."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        logits = self.network(images)
        return torch.stack([logits[:, :5].logsumexp(1), logits[:, 5:].logsumexp(1)], 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    dataset = open_dataset(LESIONS, tmp_path_factory.mktemp("lesions"), None)
    network = fit_classifier(fine(10, 3), dataset, dataset.cases[::2]).requires_grad_(False).eval()
    return network, stack(dataset, dataset.cases[1::2], torch.device("cpu")).images


@pytest.mark.parametrize("library", list(PEERS["worst_case"]))
@pytest.mark.parametrize("classes", [10, 2])
def test_no_ensemble_leaves_fewer_images(photos, library, classes):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed; run `make bench-setup`")
    network = photos[0] if classes == 10 else Two(photos[0])
    images = photos[1][:24]
    labels = network(images).argmax(1)
    for budget in (0.5, 1, 2, 4):
        options = {"eps": budget / 255, "steps": STEPS, "queries": QUERIES}
        peer = partial(PEERS["worst_case"][library], **options)
        ours = partial(worst_case, boundary_steps=STEPS, **options)
        left, cost = withstood(network, images, labels, budget / 255, ours)
        left_by_peer, cost_of_peer = withstood(network, images, labels, budget / 255, peer)
        assert left <= left_by_peer + 1
        if (library, classes) == ("torchattacks", 10):  # which makes the same attempts
            assert cost <= 0.97 * cost_of_peer


def test_fab_is_as_near_as_its_peer(photos):
    torchattacks = pytest.importorskip("torchattacks")
    network, images = photos[0], photos[1][:12]
    labels = network(images).argmax(1)
    peer = torchattacks.FAB(network, eps=1.0, steps=30, n_classes=10)
    theirs, ours = peer(images, labels), fab(network, images, labels, steps=30, candidates=None)
    fooled = network(theirs).argmax(1) != labels
    assert fooled.all()
    assert (network(ours).argmax(1) != labels).all()
    ratio = linf(images, ours) / linf(images, theirs)
    assert ratio.median() <= 1.01
    assert ratio.max() <= 1.1


def test_square_fools_as_many_as_its_peer(photos):
    torchattacks = pytest.importorskip("torchattacks")
    network, images = photos[0], photos[1][:24]
    labels = network(images).argmax(1)
    left = {}
    for name, attack in {
        "ours": lambda: square(network, images, labels, eps=3 / 255, steps=200, rescale=False),
        "theirs": lambda: torchattacks.Square(network, eps=3 / 255, n_queries=200, resc_schedule=False)(
            images, labels
        ),
    }.items():
        left[name] = int((network(attack()).argmax(1) == labels).sum())
    assert left["ours"] <= left["theirs"] + 2
