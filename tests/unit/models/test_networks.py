from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.models import (
    MODELS,
    Network,
    build,
    check_network,
    has_gradient,
    model_spec,
    parameter_count,
    prepare,
    say_the_same,
)
from medrobust.models.architectures.layers import layers
from medrobust.models.architectures.segnet import SegNet
from medrobust.models.network import last_layer_input

SEGMENTERS = ("segnet", "unet", "fc_densenet")


def segmenter(name, preset="tiny", classes=4, channels=1, shape=(32, 32), **entry):
    spec = model_spec({"name": name, "preset": preset, **entry}, Task.SEGMENTATION)
    return build(spec, classes=classes, channels=channels, shape=shape)


def loaded(function, classes=2, channels=3, task=Task.CLASSIFICATION, shape=(12, 12), **entry):
    spec = model_spec({"name": "mine", "load": f"made_networks:{function}", **entry}, task)
    network = build(spec, classes=classes, channels=channels, shape=shape)
    check_network(network, "mine", task=task, classes=classes, images=torch.rand(4, channels, *shape))
    return network


@pytest.mark.parametrize(("preset", "millions"), [("small", 0.42), ("paper", 3.4)])
def test_the_three_segmenters_of_a_preset_are_of_one_size(preset, millions):
    sizes = [parameter_count(segmenter(name, preset, 28, 1, (32, 32))) for name in SEGMENTERS]
    assert max(sizes) <= 1.10 * min(sizes)
    assert all(abs(size / 1e6 - millions) < 0.1 * millions for size in sizes)


@pytest.mark.parametrize("name", SEGMENTERS)
@given(height=st.integers(9, 40), width=st.integers(9, 40), channels=st.sampled_from([1, 3]))
@settings(max_examples=10, deadline=None)
def test_any_image_size_fits(name, height, width, channels):
    network = segmenter(name, channels=channels, shape=(height, width))
    logits = network(torch.rand(1, channels, height, width))
    assert logits.shape == (1, 4, height, width)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_volumes(name):
    network = segmenter(name, shape=(9, 12, 10))
    assert network(torch.rand(1, 1, 9, 12, 10)).shape == (1, 4, 9, 12, 10)
    assert network.features(torch.rand(2, 1, 9, 12, 10)).ndim == 2
    assert prepare(network, torch.device("cpu")) is network


def test_layers_of_other_ranks_are_refused():
    with pytest.raises(ValueError, match=r"must be 2 .* or 3 .* got 1"):
        layers(1)


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match=r"kernel must be odd.*got 4"):
        SegNet(classes=2, channels=1, dimensions=2, kernel=4)
    with pytest.raises(ModelError, match=r"models\.segnet cannot be built: ValueError: kernel must be odd"):
        segmenter("segnet", kernel=4)


def test_segnet_passes_only_places_to_its_decoder():
    """Moving the maxima moves the output; without skips a silent bottleneck leaves nothing but biases."""
    network = segmenter("segnet").body
    images = torch.rand(1, 1, 32, 32)
    deepest = []
    network.down[-1].register_forward_hook(lambda *_: deepest.append(_[2]) or torch.zeros_like(_[2]))
    assert torch.equal(network(images), network(images.flip(-1)))
    assert not torch.equal(deepest[0], deepest[1])


@pytest.mark.parametrize("name", ["unet", "fc_densenet"])
def test_long_skips_reach_the_output_without_the_bottleneck(name):
    network = segmenter(name).body
    deepest = network.down[-1] if name == "unet" else network.deepest
    deepest.register_forward_hook(lambda *_: torch.zeros_like(_[2]))
    images = torch.rand(1, 1, 32, 32)
    assert not torch.allclose(network(images), network(images.flip(-1)))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_features_are_the_mean_of_the_bottleneck(name):
    network = segmenter(name)
    images = torch.rand(3, 1, 32, 32)
    expected = network.body.encode(images)[0].mean((2, 3))
    torch.testing.assert_close(network.features(images), expected)


def test_features_of_timm_feed_its_last_layer():
    spec = model_spec({"name": "mobilenet_v1"}, Task.CLASSIFICATION)
    network = build(spec, classes=5, channels=3, shape=(32, 32))
    images = torch.rand(2, 3, 32, 32)
    features = network.features(images)
    assert features.shape == (2, 1024)
    torch.testing.assert_close(network.body.classifier(features), network(images))
    assert network.input.mean == (0.5, 0.5, 0.5)


def test_features_of_a_loaded_network_feed_the_layer_that_runs_last():
    network = loaded("last_runs_first")
    images = torch.rand(2, 3, 12, 12)
    torch.testing.assert_close(network.body.head(network.features(images)), network(images))
    assert not any(part._forward_pre_hooks for part in network.modules())


def test_features_need_a_layer():
    with pytest.raises(ModelError, match=r"no linear or convolution layer .* Scores need none"):
        last_layer_input(nn.Flatten(), torch.rand(1, 1, 2, 2))


def test_normalisation_and_grey_to_colour_happen_inside():
    network = Network(nn.Identity(), channels=3, mean=[0.5, 0.0, 0.1], std=[0.5, 1.0, 2.0])
    image = torch.full((1, 1, 2, 2), 0.3)
    assert network.prepared(image)[0, :, 0, 0].tolist() == pytest.approx([-0.4, 0.3, 0.1])


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (lambda logits: {"aux": None, "pred": logits}, "pred"),
        (lambda logits: SimpleNamespace(pred=logits), "pred"),
        (lambda logits: (None, logits), 1),
        (lambda logits: {"first": (logits,)}, lambda out: out["first"][0]),
        (lambda logits: (logits, None), None),
    ],
)
def test_where_the_logits_are_can_be_said(returned, output):
    body, images = nn.Conv2d(1, 4, 1), torch.rand(2, 1, 3, 3)
    network = Network(lambda images: returned(body(images)), output=output)
    torch.testing.assert_close(network(images), body(images))


def test_grey_images_are_repeated_for_a_first_convolution_of_colours():
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    assert Network(body)(torch.rand(2, 1, 3, 3)).shape == (2, 2, 3, 3)
    assert Network(body[1]).input.channels is None


def test_resizing_happens_inside_and_back_again():
    network = segmenter("unet", input={"size": 16})
    seen = []
    network.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    images = torch.rand(1, 1, 30, 26, requires_grad=True)
    logits = network(images)
    assert seen == [(1, 1, 16, 16)]
    assert logits.shape == (1, 4, 30, 26)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.abs().sum() > 0


def test_smaller_logit_maps_are_resized_to_the_image():
    network = loaded("half_size", task=Task.SEGMENTATION)
    assert network(torch.rand(1, 3, 12, 12)).shape == (1, 2, 12, 12)


@pytest.mark.parametrize("function", ["one_logit", "flat_logit"])
def test_one_logit_becomes_two(function):
    network = loaded(function)
    images = torch.rand(4, 3, 12, 12)
    single = network.body(network.prepared(images)).flatten()
    torch.testing.assert_close(network(images).softmax(1)[:, 1], single.sigmoid())


@pytest.mark.parametrize("function", ["classifier", "any_keywords", "log_softmax"])
def test_networks_of_users(function):
    assert loaded(function)(torch.rand(2, 3, 12, 12)).shape == (2, 2)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("of_seven", "models.mine: It returns 7 classes, but the data have 2"),
        ("sigmoid", r"returns probabilities: all values lie in \[0, 1\].*output: \{kind: probabilities\}"),
        ("softmax", "returns probabilities"),
        ("two_outputs", r"must return logits of shape \(n, classes\), got \(3, 3, 12, 12\) for 3 images"),
        ("no_gradient", "has no gradient"),
        ("half_size", r"must return logits of shape \(n, classes\), got \(3, 2, 6, 6\)"),
        ("no_module", "must return a torch.nn.Module, or a function from images to logits, got int"),
        ("broken", "failed: RuntimeError: the user's bug"),
    ],
)
def test_networks_that_do_not_fit(function, message):
    with pytest.raises(ModelError, match=message):
        loaded(function)


def test_a_classifier_in_a_segmentation_study():
    with pytest.raises(ModelError, match="and the image's size"):
        loaded("classifier", task=Task.SEGMENTATION)


def test_one_logit_for_three_classes():
    with pytest.raises(
        ModelError, match=r"returns one output, as for two classes .*, but the data have 3 classes"
    ):
        loaded("one_logit", classes=3)


def test_channels_that_do_not_fit():
    with pytest.raises(ModelError, match="takes 1"):
        loaded("classifier", input={"channels": 1})


def test_images_that_are_too_small():
    spec = model_spec({"name": "inception_v3"}, Task.CLASSIFICATION)
    network = build(spec, classes=2, channels=3, shape=(20, 20)).eval()
    with pytest.raises(ModelError, match=r"cannot take 3 images with 3 channels and size \(20, 20\)"):
        check_network(network, "mine", task=Task.CLASSIFICATION, classes=2, images=torch.rand(4, 3, 20, 20))


@pytest.mark.parametrize("key", ["mean", "std"])
def test_statistics_for_another_number_of_channels(key):
    with pytest.raises(ModelError, match=rf"input\.{key} must be one number or 3"):
        loaded("classifier", input={key: [0.5, 0.5]})


def test_a_size_of_another_rank():
    with pytest.raises(ModelError, match=r"input\.size must have 2 sides"):
        loaded("classifier", input={"size": [8, 8, 8]})


def test_prepare_freezes_once():
    network = segmenter("unet").train()
    prepare(network, torch.device("cpu"))
    assert not any(part.training for part in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    kernel = network.body.down[1][0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_summaries_for_lists():
    assert all(entry.summary and entry.source and entry.revision >= 1 for entry in MODELS.values())


@pytest.mark.parametrize("seen", ["squeezed", "clamped", "mean", "two"])
def test_probabilities_are_told_by_their_values_on_images(seen):
    def answer(z):
        p = z.sigmoid()
        return {
            "squeezed": p[:, 0],
            "clamped": p.clamp(1e-6, 1 - 1e-6),
            "mean": (p + p) / 2,
            "two": torch.cat([1 - p, p], 1),
        }[seen]

    head = nn.Linear(3, 1)
    images = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    for body in (_Answers(head, answer), lambda images: answer(head(images.mean((2, 3))))):
        network = prepare(Network(body), torch.device("cpu"))
        with pytest.raises(
            ModelError, match=r"returns probabilities: all values lie in \[0, 1\], from 0\.\d+"
        ):
            check_network(network, "mine", task=Task.CLASSIFICATION, classes=2, images=images)


@pytest.mark.parametrize("size", [1e-4, 1.0])
def test_logits_that_happen_to_lie_between_0_and_1_are_logits(size):
    head = nn.Linear(3, 2)
    nn.init.constant_(head.weight, size / 4)
    nn.init.constant_(head.bias, size / 4)
    network = prepare(Network(_Answers(head, lambda z: z)), torch.device("cpu"))
    check_network(network, "mine", task=Task.CLASSIFICATION, classes=2, images=torch.rand(8, 3, 12, 12))


class _Answers(nn.Module):
    """What `answer` makes of logits of the mean colour."""

    def __init__(self, head, answer):
        super().__init__()
        self.head, self.answer = head, answer

    def forward(self, images):
        return self.answer(self.head(images.mean((2, 3))))


@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: x.float(), lambda x: x[:, None], lambda x: x.numpy()]
)
def test_decisions_become_logits_that_decide_alike_in_the_order_of_the_data(form):
    said = torch.tensor([2, 0, 1, 2])
    network = Network(lambda images: form(said), kind="decisions", classes=["c", "a", "b"])
    network.put_in_order(["a", "b", "c"])
    logits = network(torch.rand(4, 1, 8, 8))
    assert logits.argmax(1).tolist() == [1, 2, 0, 1]
    assert torch.equal(logits.softmax(1).max(1).values, torch.ones(4))


def test_decisions_about_pixels_and_findings():
    images = torch.rand(2, 1, 4, 6)
    labels = (images[:, 0] > 0.5).long() + (images[:, 0] > 0.8).long()
    network = Network(lambda images: labels, kind="decisions")
    network.put_in_order(["background", "organ", "tumour"])
    assert torch.equal(network(images).argmax(1), labels)
    present = torch.tensor([[1, 0, 1], [0, 0, 1]])
    network = Network(lambda images: present.bool(), kind="decisions", findings=True)
    assert network(images).shape == (2, 2, 3)
    assert torch.equal(network(images).argmax(1), present)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (torch.tensor([0, 3]), r"the decision 3\. .* from 0 to 2, in the order of output\.classes"),
        (torch.tensor([0, -1]), r"the decision -1\."),
        (torch.tensor([0.0, 0.25]), r"the decision 0\.25\."),
        (torch.tensor([0, 1, 1]), r"decisions of shape \(3,\) for 2 images"),
    ],
)
def test_what_are_no_decisions_is_refused(said, message):
    network = Network(lambda images: said, kind="decisions", classes=["a", "b", "c"])
    with pytest.raises(ModelError, match=message):
        network(torch.rand(2, 1, 8, 8))
    with pytest.raises(ModelError, match=r"input\.window: windows are joined by their logits"):
        Network(lambda images: said, kind="decisions", window={"size": 4})


def test_a_batch_with_whole_numbers_is_of_decisions():
    network = Network(lambda images: images.mean((2, 3)).argmax(1))
    with pytest.raises(ModelError, match=r"returns whole numbers \(torch.int64\).*kind: decisions"):
        check_network(
            network,
            "mine",
            task=Task.CLASSIFICATION,
            classes=3,
            images=torch.rand(4, 3, 8, 8),
            attackable=False,
        )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda images: images.mean((2, 3)), True),
        (lambda images: images.detach().mean((2, 3)), False),
        (lambda images: images.round().mean((2, 3)), False),
        (lambda images: torch.from_numpy(images.detach().numpy()).mean((2, 3)), False),
        (lambda images: images[:, :, 99], True),  # fails, which `check_network` tells
    ],
)
def test_whether_attacks_have_a_gradient_to_follow(body, expected):
    assert has_gradient(Network(body), 3, (8, 8)) is expected


def test_networks_that_say_the_same():
    first = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    assert say_the_same(first, 3 * first + torch.arange(5))
    assert say_the_same(first, first.bfloat16().float())
    assert not say_the_same(first, first.flip(0))
    assert not say_the_same(first, -first)
    assert not say_the_same(torch.ones(6, 5), torch.ones(6, 5))
    assert not say_the_same(first, first[:, :4])
    maps = torch.rand(1, 3, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    assert say_the_same(maps, 2 * maps - 1)
    assert not say_the_same(maps, maps.flip(2))
