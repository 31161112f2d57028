"""Parts that make attacks transfer: what networks are shown, and how gradients add up."""

import numpy as np
import pytest
import torch
from scipy import fft, ndimage
from torch import nn

from medrobust.core import UNKNOWN, Task
from medrobust.errors import StudyError
from medrobust.perturbations import mi_fgsm, pgd, request, requests
from medrobust.perturbations.attacks.transfer import _cosines, bsr, di, guide, ssm, ti
from medrobust.perturbations.contract import smooth_batch, smooth_network
from medrobust.perturbations.geometry import Ball
from medrobust.perturbations.gradients import cross_entropy_weights
from medrobust.rng import generator


def rngs(n=3):
    return [generator(0, "transfer", number) for number in range(n)]


def images(*shape, seed=0):
    return torch.from_numpy(generator(seed, "images").random(shape, dtype=np.float32))


def subject(task, *, channels=1, space=(14, 14), n=3):
    network = smooth_network(task, channels, len(space))
    return network, *smooth_batch(task, network, n, channels, space)


class Counting(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, images):
        self.calls += 1
        return self.network(images)


PRESETS = list(mi_fgsm.perturbation.presets)


@pytest.mark.parametrize("preset", PRESETS)
def test_passes_are_those_that_are_counted(preset):
    network, shown, labels = subject(Task.CLASSIFICATION)
    network = Counting(network)
    asked = request({"name": "mi_fgsm", "preset": preset, "steps": 2}, Task.CLASSIFICATION)
    mi_fgsm(network, shown, labels, eps=0.03, rngs=rngs(), others=shown, **asked.parameters)
    assert network.calls == mi_fgsm.perturbation.passes(asked.parameters)
    known = {"admix": 30, "ssm": 40, "bsr": 40, "vmi-fgsm": 22, "vni-fgsm": 22, "si-ni-fgsm": 10}
    assert network.calls == known.get(preset, 2)


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.SEGMENTATION])
def test_gradients_of_several_images_add_up_in_their_own_sizes(task):
    """In those of the cross-entropy: a brightness at which the network is sure counts little."""
    network, shown, labels = subject(task)
    with torch.no_grad():
        network.scale /= 4
    follow = guide(
        network,
        labels,
        Ball(shown, None, 0.1, "inf"),
        lambda number, *of: cross_entropy_weights(*of),
        transfer=["si", "vmi"],
        rngs=rngs(),
    )
    leaf = shown.clone().requires_grad_()
    sizes = [nn.functional.cross_entropy(network(leaf / 2**number), labels) for number in range(5)]
    (expected,) = torch.autograd.grad(sum(sizes), leaf)
    for made, of in zip(follow(0, shown), expected, strict=True):
        assert torch.allclose(made / made.abs().max(), of / of.abs().max(), atol=1e-5)


@pytest.mark.parametrize("part", ["si", "vmi"])
def test_a_network_that_is_very_sure_is_attacked_all_the_same(part):
    """The gradient of its cross-entropy is 0 in float32."""
    network, shown, labels = subject(Task.CLASSIFICATION)
    with torch.no_grad():
        network.scale /= 2000
    leaf = shown.clone().requires_grad_()
    loss = nn.functional.cross_entropy(network(leaf), labels, reduction="none")
    assert (torch.autograd.grad(loss[loss.argmin()], leaf)[0] == 0).all()
    made = mi_fgsm(network, shown, labels, eps=0.03, steps=3, rngs=rngs(), transfer=[part])
    assert (made - shown).flatten(1).abs().amax(1) == pytest.approx(0.03, abs=1e-6)


@pytest.mark.parametrize("rate", [0.75, 1.1, 1.5])
@pytest.mark.parametrize("space", [(40, 40), (30, 47), (16, 12, 20)])
def test_label_maps_are_resized_and_padded_with_their_images(rate, space):
    labels = torch.zeros(4, *space, dtype=torch.int64)
    labels[:, space[0] // 3 :] = 1
    labels[..., : space[-1] // 2] += 2
    shown = (1 + labels[:, None]).float() / 4
    (view,) = di(shown, rngs(4), rate=rate, probability=1.0)
    made, moved = view.of(shown), view.labels(labels)
    assert made.shape == shown.shape
    assert moved.shape == labels.shape
    off = (made[:, 0] * 4 - 1 - moved).abs() > 0.5  # where nothing is, both have -1
    assert off.float().mean() < 0.12  # borders are interpolated
    assert (moved == UNKNOWN).any()
    assert len({tuple(each.flatten().tolist()) for each in moved}) > 1
    answers = torch.tensor([[0, 1]] * 4)
    assert view.labels(answers) is answers


def test_some_images_are_left_as_they_are():
    shown = images(40, 1, 20, 20)
    (view,) = di(shown, rngs(40), rate=1.3)
    left = (view.of(shown) == shown).flatten(1).all(1).float().mean()
    assert 0.2 < left < 0.8


@pytest.mark.parametrize("space", [(12, 30), (9, 17, 11)])
def test_the_blur_is_the_convolution(space):
    gradient = images(2, 3, *space)
    kernel = np.exp(-(np.linspace(-3, 3, 15) ** 2) / 2)
    kernel /= kernel.sum()
    expected = gradient.numpy().astype(float)
    for axis in range(2, gradient.ndim):
        expected = ndimage.convolve1d(expected, kernel, axis, mode="constant")
    assert torch.allclose(ti(gradient).double(), torch.from_numpy(expected), atol=1e-6)
    assert torch.equal(ti(gradient, side=0), gradient)


def test_the_cosine_transform_is_scipys():
    line = images(1, 23)
    expected = fft.dct(line.numpy(), norm="ortho")
    assert torch.allclose(line @ _cosines(23).T.float(), torch.from_numpy(expected), atol=1e-6)


@pytest.mark.parametrize("space", [(9, 14), (6, 9, 5)])
def test_a_spectrum_that_is_left_alone_gives_the_image(space):
    shown = images(3, 2, *space)
    for view in ssm(shown, rngs(), amplitude=0.0, spread=0.0, copies=2):
        assert torch.allclose(view.of(shown), shown, atol=1e-5)
    for view in ssm(shown, rngs(), amplitude=0.1, copies=2):
        assert 0.02 < (view.of(shown) - shown).std() < 0.5


@pytest.mark.parametrize("space", [(14, 23), (8, 13, 9), (3, 5)])
def test_blocks_that_are_not_turned_hold_the_same_pixels(space):
    shown = images(3, 2, *space)
    for view in bsr(shown, rngs(), degrees=0.0, copies=3):
        made = view.of(shown)
        assert torch.allclose(made.flatten(2).sort(2).values, shown.flatten(2).sort(2).values, atol=1e-4)
        assert (made == shown).all() == (space == (3, 5))  # too small for two blocks


def test_order_does_not_matter_and_everything_is_on_record():
    one, other = (
        requests({"name": "mi_fgsm", "transfer": parts}, Task.CLASSIFICATION)[0]
        for parts in (["ti", "di"], {"di": None, "ti": {"side": 7}})
    )
    assert list(one.parameters["transfer"]) == list(other.parameters["transfer"])
    assert one.recipe == other.recipe
    assert one.parameters["transfer"]["di"] == {"rate": 1.1, "probability": 0.5}
    assert request(one.written, Task.CLASSIFICATION) == one


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"name": "mi_fgsm", "transfer": ["dii"]}, "transfer: Unknown part 'dii'. Did you mean 'di'?"),
        ({"name": "mi_fgsm", "transfer": "di"}, "transfer: takes names of parts, or a mapping"),
        ({"name": "mi_fgsm", "transfer": {"bsr": {"copys": 2}}}, "bsr: Unknown key 'copys'. Did you mean"),
        ({"name": "mi_fgsm", "transfer": {"bsr": {"copies": 0}}}, "bsr.copies: Input should be greater"),
        ({"name": "mi_fgsm", "transfer": ["si", "admix"]}, "'admix' already shows images at the brightness"),
        ({"name": "pgd", "transfer": ["ni"]}, "transfer: 'ni' looks ahead along the momentum"),
        ({"name": "pgd", "transfer": ["di"], "loss": "dlr"}, "transfer: parts add up gradients"),
    ],
)
def test_what_makes_no_sense_is_refused(item, message):
    with pytest.raises(StudyError, match=message):
        requests(item, Task.CLASSIFICATION)


def test_blocks_are_not_shuffled_where_labels_are_maps():
    with pytest.raises(StudyError, match=r"transfer: 'bsr' shuffles blocks .* 'di' moves label maps along"):
        request({"name": "mi_fgsm", "preset": "bsr"}, Task.SEGMENTATION)
    network, shown, labels = subject(Task.SEGMENTATION)
    with pytest.raises(ValueError, match="transfer: 'bsr' shuffles blocks"):
        pgd(network, shown, labels, eps=0.1, transfer=["bsr"])


def test_admix_needs_images_to_mix_in():
    network, shown, labels = subject(Task.CLASSIFICATION)
    with pytest.raises(ValueError, match="others: admix adds a share of another image; give some"):
        mi_fgsm(network, shown, labels, eps=0.1, transfer=["admix"])


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("norm", ["inf", "2"])
def test_parts_go_together_in_2d_and_3d(task, norm):
    parts = {"ssm": {"copies": 2}, "di": {}, "ti": {}, "vmi": {"neighbours": 1}}
    for space in ((11, 17), (7, 11, 9)):
        network, shown, labels = subject(task, channels=2, space=space)
        for attack in (mi_fgsm, pgd):
            options = {"eps": 0.5 if norm == "2" else 0.03, "norm": norm, "steps": 2, "rngs": rngs()}
            made = attack(network, shown, labels, transfer=parts, **options)
            change = (made - shown).flatten(1)
            sizes = change.norm(dim=1) if norm == "2" else change.abs().amax(1)
            assert (sizes <= options["eps"] * (1 + 1e-5)).all()
            assert (sizes > 0.5 * options["eps"]).all()
