"""DeepFool's presets against their algorithms, written down once more, one image at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from medrobust.metrics.similarity import l2, linf
from medrobust.perturbations import Tally, deepfool


def bent(classes=4, steep=1.0):
    """A smooth network and images of which half of the entries are black or white."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.Tanh(), nn.Linear(16, classes))
        network[1].weight.data *= steep
        images = (2 * torch.rand(16, 2, 6, 6) - 0.5).clamp(0, 1)
    for weight in network.parameters():
        weight.requires_grad_(False)
    return network, images, network(images).argmax(1)


def logits_and_gradients(network, image):
    gradients = torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image)
    return network(image[None])[0], gradients


def moosavi(network, image, label, steps=50, overshoot=0.02):
    """Steps add up where nothing is cut off; the network sees the clean image plus 1.02 times their sum."""
    total, shown = torch.zeros_like(image), image
    for taken in range(steps):
        logits, gradients = logits_and_gradients(network, shown)
        if logits.argmax() != label:
            return shown, taken
        ways = []
        for rival in {*range(len(logits))} - {int(label)}:
            normal = gradients[rival] - gradients[label]
            distance = (logits[rival] - logits[label]).abs() / normal.norm()
            ways.append((float(distance), (distance + 1e-4) * normal / normal.norm()))
        total = total + min(ways, key=lambda way: way[0])[1]
        shown = (image + (1 + overshoot) * total).clamp(0, 1)
    return shown, steps


def foolbox(network, image, label, steps=100):
    """1.05 of every step to a class whose logit is smaller; each step is cut off; None: failed."""
    shown = image
    for taken in range(steps + 1):
        logits, gradients = logits_and_gradients(network, shown)
        if logits.argmax() != label:
            return shown, taken
        ways = []
        for rival in range(len(logits)):
            if logits[rival] < logits[label]:
                normal = gradients[rival] - gradients[label]
                gap, size = logits[label] - logits[rival], normal.norm() + 1e-8
                ways.append((float(gap / size), gap / size**2 * normal))
        if not ways:
            return None, taken
        shown = (shown + 1.05 * min(ways, key=lambda way: way[0])[1]).clamp(0, 1)
    return None, steps


@pytest.mark.parametrize(("preset", "written"), [("moosavi-2016", moosavi), ("foolbox-0.8", foolbox)])
def test_a_preset_is_its_algorithm(preset, written):
    network, images, labels = bent()
    tally = Tally()
    made = deepfool(network, images, labels, preset=preset, tally=tally)
    expected = [written(network, image, label) for image, label in zip(images, labels, strict=True)]
    assert tally.steps.float().mean() > 3  # steps are cut off at 0 and 1
    same = [
        image is not None and torch.allclose(one, image, atol=1e-5)
        for one, (image, _) in zip(made, expected, strict=True)
    ]
    # How logits that are all but equal are rounded decides where foolbox goes.
    assert np.mean(same) >= (1 if preset == "moosavi-2016" else 0.75)
    if preset == "moosavi-2016":
        assert tally.steps.tolist() == [taken for _, taken in expected]


@pytest.mark.parametrize(("norm", "measure"), [("2", l2), ("inf", linf)])
def test_the_default_is_never_longer_than_the_published_algorithm(norm, measure):
    network, images, labels = bent(steep=4.0)
    published = deepfool(network, images, labels, norm=norm, preset="moosavi-2016")
    ours = deepfool(network, images, labels, norm=norm, near=None)
    assert (network(ours).argmax(1) != labels).all()
    ratio = measure(images, ours) / measure(images, published)
    assert ratio.max() <= 1
    assert ratio.median() < 0.995


class Lines(nn.Module):
    """Logits that are sums of two entries each, in numbers that float32 holds exactly."""

    def __init__(self, offsets):
        super().__init__()
        self.offsets = torch.tensor(offsets)

    def forward(self, images):
        return images.flatten(1)[:, : 2 * len(self.offsets)].unflatten(1, (-1, 2)).sum(2) + self.offsets


def test_foolbox_0_8_turns_from_a_tie_to_another_class():
    network, images = Lines([0.0, 0.0, -0.25]), torch.full((1, 1, 2, 3), 0.5)
    label = torch.tensor([0])
    assert network(images).tolist() == [[1, 1, 0.75]]
    far = deepfool(network, images, label, preset="foolbox-0.8")
    near = deepfool(network, images, label, preset="moosavi-2016")
    assert l2(images, far).item() == pytest.approx(1.05 * 0.25 / 2, rel=1e-4)
    assert l2(images, near).item() == pytest.approx(1.02 * 1e-4, rel=1e-2)


def test_foolbox_0_8_fails_at_a_tie_of_all_classes():
    network, images = Lines([0.0, 0.0]), torch.full((1, 1, 2, 2), 0.5)
    label = torch.tensor([0])
    assert torch.equal(deepfool(network, images, label, preset="foolbox-0.8"), images)
    assert network(deepfool(network, images, label)).argmax() == 1


def test_foolbox_0_8_creeps_where_steps_are_cut_off():
    """Two of four entries are black already, so that 1.05 of a step closes 0.525 of the gap."""
    network, images = Lines([1.0, 0.0]), torch.tensor([0.0, 0.0, 0.25, 0.25]).view(1, 1, 2, 2)
    label = torch.tensor([0])
    for steps in range(1, 6):
        made = deepfool(network, images, label, preset="foolbox-0.8", steps=steps)
        logits = network(made)[0]
        assert float(logits[0] - logits[1]) == pytest.approx(0.5 * 0.475**steps, rel=1e-4)
    assert network(deepfool(network, images, label)).argmax() == 1
