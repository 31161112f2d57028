"""Attacks that look for the smallest change, where that is known in closed form."""

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from affine_networks import Affine
from medrobust.perturbations import alma_prox, ddn, fmn, pdpgd, sigma_zero
from medrobust.perturbations.attacks.alma_prox import flattened
from medrobust.perturbations.attacks.nearest import sizes

DUAL = {"inf": 1, "2": 2, "1": torch.inf}


@pytest.mark.parametrize("norm", ["inf", "2", "1"])
@pytest.mark.parametrize("start", ["clean", "deepfool"])
@pytest.mark.parametrize("classes", [2, 5])
def test_fmn_ends_at_the_nearest_boundary(norm, start, classes):
    model = Affine(classes)
    images, labels = model.batch()
    distance, _ = model.distances(DUAL[norm])
    result = fmn(model, images, labels, norm=norm, start=start)
    assert (model(result).argmax(1) != labels).all()
    ratio = sizes(result - images, norm) / distance
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.005


@pytest.mark.parametrize(("start", "most"), [("clean", 1.35), ("deepfool", 1.0101)])
def test_ddn_ends_near_the_boundary(start, most):
    """From the clean image, its sphere of radius 1 has not shrunk to a fortieth after half of the steps."""
    model = Affine()
    images, labels = model.batch()
    distance, _ = model.distances(2)
    result = ddn(model, images, labels, start=start)
    ratio = sizes(result - images, "2") / distance
    assert (model(result).argmax(1) != labels).all()
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= most


def fewest_entries(model, images, labels):
    """Of two classes: how many entries must go to the end of their range, those that matter most first."""
    weights = (model.weight[1] - model.weight[0]).detach()
    logits = model(images).detach()
    gaps = (logits[:, 0] - logits[:, 1]).abs()
    weights = torch.where((labels == 0)[:, None], weights, -weights)
    x = images.flatten(1)
    gains = torch.where(weights > 0, weights * (1 - x), -weights * x).sort(1, descending=True).values
    return (gains.cumsum(1) <= gaps[:, None]).sum(1) + 1


@pytest.mark.parametrize(("attack", "options"), [(sigma_zero, {"steps": 300}), (fmn, {"norm": "0"})])
def test_as_few_entries_change_as_can(attack, options):
    model = Affine(2)
    with torch.no_grad():
        model.bias[0] += 10  # so that one entry does not do
    images, labels = model.batch()
    fewest = fewest_entries(model, images, labels)
    assert fewest.float().mean() > 2
    result = attack(model, images, labels, **options)
    assert (model(result).argmax(1) != labels).all()
    count = sizes(result - images, "0")
    assert (count >= fewest).all()
    assert (count - fewest).float().mean() <= 1


class Pointwise(nn.Module):
    """Every pixel by itself: logits are a linear function of its channels."""

    def __init__(self, classes, dimensions=2, channels=3):
        super().__init__()
        draw = torch.Generator().manual_seed(classes)
        self.weight = torch.randn(classes, channels, generator=draw)
        space = (9, 11) if dimensions == 2 else (4, 5, 6)
        self.images = 0.45 + 0.1 * torch.rand(3, channels, *space, generator=draw)
        self.bias = -(self.weight @ self.images.movedim(1, 0).flatten(1)).mean(1)
        self.scale = 1.0

    def forward(self, images):
        logits = torch.einsum("kc,nc...->nk...", self.weight, images)
        return self.scale * (logits + self.bias.view(1, -1, *[1] * (images.ndim - 2)))

    def smallest(self, labels, share):
        """The size at which so many of the known pixels can be wrong."""
        logits = self(self.images)
        own = logits.gather(1, labels.clamp_min(0)[:, None])
        normals = self.weight[labels.clamp_min(0)].movedim(-1, 1)[:, None] - self.weight.view(
            1, *self.weight.shape, *[1] * (logits.ndim - 2)
        )
        distance = (own - logits) / self.scale / normals.abs().sum(2)
        distance.scatter_(1, labels.clamp_min(0)[:, None], torch.inf)
        found = []
        for each, known in zip(distance.amin(1), labels >= 0, strict=True):
            ordered = each[known].sort().values
            found.append(ordered[int(-(-share * len(ordered) // 1)) - 1])
        return torch.stack(found)


@pytest.mark.parametrize("attack", [alma_prox, pdpgd])
@pytest.mark.parametrize(("classes", "dimensions"), [(2, 2), (4, 2), (2, 3)])
def test_nearly_all_pixels_become_wrong_by_the_smallest_change(attack, classes, dimensions):
    model = Pointwise(classes, dimensions)
    labels = model(model.images).argmax(1)
    labels[:, :2] = -1
    share = 0.9
    result = attack(model, model.images, labels, share=share, steps=300)
    known = labels >= 0
    wrong = ((model(result).argmax(1) != labels) & known).flatten(1).sum(1) / known.flatten(1).sum(1)
    assert (wrong >= share).all()
    ratio = sizes(result - model.images, "inf") / model.smallest(labels, share)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= {alma_prox: 1.25, pdpgd: 1.2}[attack]
    assert torch.equal(result[:, :, :2], model.images[:, :, :2])  # what is unknown pulls nowhere


def test_the_scale_of_two_logits_does_not_matter():
    model = Pointwise(2)
    labels = model(model.images).argmax(1)
    result = alma_prox(model, model.images, labels, steps=30)
    model.scale = 64.0
    assert torch.allclose(alma_prox(model, model.images, labels, steps=30), result, atol=1e-5)


def test_flattened_is_the_proximal_point():
    draw = torch.Generator().manual_seed(0)
    clean = torch.rand(4, 1, 3, 5, generator=draw)
    change = 0.8 * torch.randn(4, 1, 3, 5, generator=draw)
    metric = torch.rand(4, 1, 3, 5, generator=draw) + 0.05
    weight = torch.tensor([0.0, 0.05, 0.5, 50.0])
    made = flattened(change, clean, weight, metric)
    for place in range(4):
        inside = change[place].clamp(-clean[place], 1 - clean[place])

        def value(size, place=place, inside=inside):
            moved = inside.clamp(-size, size)
            return float((metric[place] * (moved - change[place]).square()).sum() / 2 + weight[place] * size)

        best = minimize_scalar(value, bounds=(0, float(inside.abs().max())), method="bounded").x
        assert torch.allclose(made[place], inside.clamp(-best, best), atol=1e-4)
