"""Networks with a logit for each region, as classes."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.functional import logsigmoid

from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.models import Network, build
from medrobust.models.check import check_network
from medrobust.models.network import of_regions
from medrobust.models.spec import model_spec
from medrobust.rng import generator

NAMES = ("background", "oedema", "core", "enhancing")
NESTED = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


def logits_of(regions: int, *key: object) -> torch.Tensor:
    return torch.from_numpy(generator(0, "regions", *key).normal(0, 3, (2, regions, 7, 5)).astype(np.float32))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.data())
def test_they_say_what_the_thresholds_say_wherever_such_a_combination_occurs(regions: int, data) -> None:
    others = st.sets(st.integers(1, 2**regions - 1), min_size=1)
    codes = [0, *sorted(data.draw(others))]
    members = torch.tensor([[bool(code >> bit & 1) for code in codes] for bit in range(regions)])
    logits = logits_of(regions, *codes)
    shown = of_regions(logits, members).argmax(1)
    thresholded = sum((logits[:, bit] > 0).long() << bit for bit in range(regions))
    occurs = torch.isin(thresholded, torch.tensor(codes))
    assert torch.equal(torch.tensor(codes)[shown][occurs], thresholded[occurs])
    # They are the probabilities of the combinations, among those that occur.
    signed = [[logits[:, bit] * (1 if code >> bit & 1 else -1) for bit in range(regions)] for code in codes]
    logs = torch.stack([sum(logsigmoid(each) for each in own) for own in signed], 1)
    torch.testing.assert_close(of_regions(logits, members).softmax(1), logs.softmax(1))
    torch.testing.assert_close(logs.exp() / logs.exp().sum(1, keepdim=True), logs.softmax(1))


def test_they_say_what_nnunet_paints_where_regions_contain_each_other() -> None:
    logits = logits_of(3, "nested")
    nested = torch.cat([logits[:, :1], torch.minimum(logits[:, 1:2], logits[:, :1])], 1)
    nested = torch.cat([nested, torch.minimum(logits[:, 2:], nested[:, 1:])], 1)
    painted = torch.zeros(nested[:, 0].shape, dtype=torch.int64)
    for place, number in enumerate((1, 2, 3)):  # regions_class_order
        painted[nested[:, place] > 0] = number
    members = torch.tensor([[place in own for place in range(4)] for own in NESTED.values()])
    assert torch.equal(of_regions(nested, members).argmax(1), painted)
    assert len(painted.unique()) == 4


class Bright(nn.Module):
    """A logit for each region, of how bright a pixel is."""

    def __init__(self, *thresholds: float) -> None:
        super().__init__()
        self.thresholds = nn.Parameter(torch.tensor(thresholds).view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 20 * (images - self.thresholds)


IMAGES = torch.linspace(0, 1, 3 * 16 * 16).view(3, 1, 16, 16)


def network(*thresholds: float, **keys) -> Network:
    made = Network(Bright(*thresholds), kind="regions", **keys)
    made.put_in_order(NAMES, NESTED)
    return made


def test_regions_are_found_by_their_names() -> None:
    shown = network(0.2, 0.5, 0.8)(IMAGES).argmax(1)
    expected = torch.bucketize(IMAGES[:, 0], torch.tensor([0.2, 0.5, 0.8]))
    assert torch.equal(shown, expected)
    other = network(0.8, 0.2, 0.5, classes=["enhancing", "whole", "core"])
    assert torch.equal(other(IMAGES).argmax(1), expected)


def test_maps_of_another_size_are_resized_before_they_are_combined() -> None:
    body = Bright(0.2, 0.5, 0.8)
    half = Network(lambda images: body(images)[..., ::2, ::2], kind="regions")
    half.put_in_order(NAMES, NESTED)
    assert half(IMAGES).shape == (3, 4, 16, 16)


def test_a_network_is_checked_by_its_regions() -> None:
    check_network(network(0.2, 0.5, 0.8), "mine", task=Task.SEGMENTATION, classes=4, images=IMAGES)
    with pytest.raises(ModelError, match=r"It returns 2 regions, but the data have 3 regions"):
        check_network(network(0.2, 0.5), "mine", task=Task.SEGMENTATION, classes=4, images=IMAGES)
    with pytest.raises(ModelError, match=r"regions are of segmentation, and the task is classification"):
        check_network(network(0.2), "mine", task=Task.CLASSIFICATION, classes=4, images=IMAGES)
    sigmoids = Network(lambda images: Bright(0.2, 0.5, 0.8)(images).sigmoid(), kind="regions")
    sigmoids.put_in_order(NAMES, NESTED)
    with pytest.raises(ModelError, match=r"It returns probabilities"):
        check_network(sigmoids, "mine", task=Task.SEGMENTATION, classes=4, images=IMAGES)


@pytest.mark.parametrize(
    ("regions", "keys", "message"),
    [
        ({"whole tumour": (1, 2, 3)}, {"classes": ["whole"]}, r"'whole'.*Did you mean 'whole tumour'"),
        ({"whole": (1, 2, 3)}, {}, r"tells 'core' from 'oedema'"),
        ({"core": (2, 3)}, {}, r"tells 'oedema' from 'background'"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(regions, keys, message) -> None:
    with pytest.raises(ModelError, match=message):
        Network(Bright(0.5), kind="regions", **keys).put_in_order(NAMES, regions)


def test_without_data_the_classes_of_regions_are_not_known() -> None:
    with pytest.raises(ModelError, match=r"of which classes its regions consist is not known"):
        Network(Bright(0.5), kind="regions")(IMAGES)


def test_an_architecture_has_an_output_for_each_region() -> None:
    entry = {"name": "unet", "width": 4, "output": {"kind": "regions"}}
    spec = model_spec(entry, Task.SEGMENTATION)
    regions = {"low": (1, 2), "high": (2, 3)}
    made = build(spec, classes=4, channels=1, shape=(16, 16), names=NAMES, regions=regions)
    assert made.raw(IMAGES).shape[1] == 2
    assert made(IMAGES).shape[1] == 4
    # Without regions, each class is decided alone.
    alone = build(spec, classes=4, channels=1, shape=(16, 16), names=NAMES)
    assert torch.equal(alone(IMAGES)[:, 1:], alone.raw(IMAGES))
