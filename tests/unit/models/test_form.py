"""What goes into a network and what comes out of it: `input:` and `output:`, and the arguments of Network."""

import json
import re
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from made_networks import classifier
from medrobust.core import Task
from medrobust.errors import ModelError, StudyError
from medrobust.models import Network, build, model_spec, recipe
from medrobust.perturbations.gradients import cross_entropy_gradient
from medrobust.perturbations.outputs import main_output

IMAGES = torch.rand(2, 1, 6, 5, generator=torch.Generator().manual_seed(0))
NAMES = ("nv", "mel", "bcc")


def prepared(images: Tensor = IMAGES, **said: object) -> Tensor:
    return Network(nn.Identity(), **said).prepared(images)


def built(names=NAMES, shape=(12, 12), **entry):
    entry = {"name": "mine", "load": "made_networks:classifier", **entry}
    spec = model_spec(entry, Task.CLASSIFICATION)
    return build(spec, classes=len(names), channels=3, shape=shape, names=names)


@pytest.mark.parametrize(("scale", "mean", "std"), [((0, 255), 123.7, 58.4), ((-1024, 1024), None, 400)])
def test_images_are_scaled_before_mean_and_std(scale, mean, std):
    low, high = scale
    expected = (low + (high - low) * IMAGES - (mean or 0)) / std
    torch.testing.assert_close(prepared(scale=scale, mean=mean, std=std), expected)


def test_each_channel_has_its_mean_and_std():
    colours = torch.rand(2, 3, 4, 4)
    mean, std = np.array([0.485, 0.456, 0.406]), (0.229, 0.224, 0.225)
    expected = (colours - torch.tensor(mean).float().view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(prepared(colours, mean=mean, std=std), expected)


@pytest.mark.parametrize("nonzero", [False, True])
def test_volumes_are_normalised_as_monai_does(nonzero):
    transform = pytest.importorskip("monai.transforms").NormalizeIntensity(nonzero=nonzero, channel_wise=True)
    volumes = torch.rand(2, 3, 6, 5, 4)
    volumes[:, :, :2] = 0
    volumes[1, 2] = 0.4  # of one colour
    expected = torch.stack([transform(volume).as_tensor() for volume in volumes])
    found = prepared(volumes, normalise="foreground" if nonzero else "volume")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("normalise", ["volume", "foreground"])
def test_the_gradient_passes_through_a_normalisation(normalise):
    images = (IMAGES.double() * 0.8 + 0.1).requires_grad_()
    network = Network(nn.Identity(), normalise=normalise)
    assert torch.autograd.gradcheck(network.prepared, images)
    plain = torch.zeros(1, 1, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.prepared(plain).square().sum(), plain)
    assert gradient.isfinite().all()


def test_images_are_padded_and_logits_cropped():
    seen = []

    def body(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.cat([images, 2 * images], 1)

    assert torch.equal(Network(body, pad=4)(IMAGES), torch.cat([IMAGES, 2 * IMAGES], 1))
    assert seen[0].shape == (2, 1, 8, 8)
    assert seen[0].sum() == IMAGES.sum()
    assert Network(body, pad=(1, 5))(IMAGES).shape == (2, 2, 6, 5)
    assert seen[1] is not IMAGES
    assert torch.equal(seen[1], IMAGES)


def test_maps_of_padded_images_may_be_smaller():
    halves = nn.Conv2d(1, 2, 2, stride=2)
    padded = nn.functional.pad(IMAGES, (1, 2, 1, 1))
    expected = nn.functional.interpolate(
        halves(padded), (8, 8), mode="bilinear", align_corners=False, antialias=True
    )
    torch.testing.assert_close(Network(halves, pad=8)(IMAGES), expected[..., 1:7, 1:6])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"normalise": "volume", "mean": 0.5}, r"input\.normalise: 'volume' takes the place of mean"),
        ({"normalise": "image"}, r"input\.normalise: Input should be 'volume' or 'foreground'"),
        ({"pad": 32, "window": {"size": 32}}, r"input\.pad: windows are padded to their own size"),
        ({"scale": [1, 1]}, r"input\.scale needs two different numbers"),
        ({"window": {"sise": 32}}, r"input\.window: Unknown key 'sise'. Did you mean 'size'"),
        ({"window": {"size": 32, "overlap": 1.0}}, r"input\.window\.overlap: Input should be less than 1"),
        ({"window": 32}, r"input\.window must hold keys such as size and overlap; got 32"),
        ({"std": 0.0}, r"input\.std\..*greater than 0; got 0\.0"),
    ],
)
def test_inputs_that_cannot_be(said, message):
    with pytest.raises(ModelError, match=f"^{message}"):
        Network(nn.Identity(), **said)
    entry = {"name": "mine", "load": "made_networks:classifier", "input": said}
    with pytest.raises(StudyError, match=rf"^models\.mine\.{message}"):
        model_spec(entry, Task.CLASSIFICATION)


def test_pads_need_a_number_for_every_side():
    with pytest.raises(ModelError, match=r"input\.pad must have 2 sides"):
        Network(nn.Identity(), pad=(2, 2, 2))(IMAGES)


def test_a_declared_normalisation_gives_way():
    entry = {"name": "resnet18", "input": {"normalise": "volume"}}
    spec = model_spec(entry, Task.CLASSIFICATION)
    network = build(spec, classes=2, channels=3, shape=(32, 32))
    assert network.input.mean is None
    assert network.prepared(torch.rand(1, 3, 32, 32)).mean().abs() < 1e-5


Two = namedtuple("Two", "scores maps")


@pytest.mark.parametrize(
    ("returned", "take"),
    [
        (lambda logits: {"heads": [None, {"scores": logits}]}, "heads.1.scores"),
        (lambda logits: {"a.b": logits, "a": {"b": None}}, "a.b"),
        (lambda logits: {0: None, 1: logits}, 1),
        (lambda logits: (None, logits), "1"),
        (lambda logits: [None, logits], -1),
        (lambda logits: Two(logits, None), "scores"),
        (lambda logits: SimpleNamespace(decoder=SimpleNamespace(out=(logits, None))), "decoder"),
    ],
)
def test_a_path_says_where_the_logits_are(returned, take):
    body = classifier(2, 1)
    network = Network(lambda images: returned(body(images)), output=take)
    torch.testing.assert_close(network(IMAGES), body(IMAGES))


@pytest.mark.parametrize(
    ("returned", "take", "message"),
    [
        (
            {"scores": 0},
            "score",
            "(a dict with the entries 'scores') has no 'score'. Did you mean",
        ),
        ((0, 1), 2, "(tuple of 2) has no '2'"),
        (IMAGES, 0, "(Tensor) has no '0'"),
        ({"a": (0,)}, "a.b", "(tuple of 1) has no 'b'"),
    ],
)
def test_a_path_that_leads_nowhere(returned, take, message):
    with pytest.raises(ModelError, match=re.escape(f"output.take: what the network returns {message}")):
        Network(lambda images: returned, output=take)(IMAGES)


def test_of_several_levels_the_finest_counts():
    coarse, fine = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)
    assert main_output([coarse, fine, torch.rand(2, 3, 8, 8)]) is fine
    assert main_output((coarse, torch.rand(2, 7, 8, 8))) is coarse  # features
    assert main_output((coarse, torch.rand(2, 5))) is coarse  # a head for whole images
    assert main_output({"out": [fine, coarse], "aux": None}) is fine


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_probabilities_become_logits_again(classes):
    body = classifier(classes, 1)
    last = nn.Sigmoid() if classes == 1 else nn.Softmax(1)
    network, plain = Network(nn.Sequential(body, last), kind="probabilities"), Network(body)
    torch.testing.assert_close(network(IMAGES).softmax(1), plain(IMAGES).softmax(1))
    torch.testing.assert_close(network(IMAGES).log_softmax(1), plain(IMAGES).log_softmax(1))


@pytest.mark.parametrize("gap", [1.0, 30.0, 60.0])
@pytest.mark.parametrize("label", [0, 1])
def test_saturated_probabilities_keep_their_gradient(gap, label):
    """Though float32 cannot tell 1 - 1e-26 from 1."""
    slopes = torch.tensor([0.0, 1.0, -2.0])

    def logits(images: Tensor) -> Tensor:
        return gap * torch.tensor([1.0, 0, 0]) + (images * torch.ones(6, 5)).mean((2, 3)) * slopes

    network = Network(lambda images: logits(images).softmax(1), kind="probabilities")
    labels = torch.full((2,), label)
    found, expected = (cross_entropy_gradient(model, IMAGES, labels)[1] for model in (network, logits))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("logit", [-60.0, -10.0, 10.0, 16.0])
def test_a_single_saturated_probability_keeps_its_gradient(logit):
    images = IMAGES.clone().requires_grad_()
    network = Network(lambda images: (images.mean((1, 2, 3)) - 0.5 + logit).sigmoid(), kind="probabilities")
    (gradient,) = torch.autograd.grad(network(images)[:, 1].sum(), images)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 1 / 30), rtol=1e-3, atol=0)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("classes", [1, 2])
def test_logits_of_certainty_are_finite(value, classes):
    values = torch.tensor([value, 1 - value][:classes])
    images = IMAGES.clone().requires_grad_()
    network = Network(lambda images: values + 0 * images.mean((2, 3)), kind="probabilities")
    logits = network(images)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()
    assert logits.argmax(1).tolist() == [int(value if classes == 1 else not value)] * 2


def test_classes_are_put_into_the_order_of_the_data():
    network = built(output={"classes": ["bcc", "nv", "mel"]})
    images = torch.rand(2, 3, 12, 12)
    assert torch.equal(network(images), network.body(images)[:, [1, 2, 0]])
    assert built(output={"classes": NAMES}).order is None


@pytest.mark.parametrize(("classes", "place"), [(["mel"], 1), (["nv"], 0), (["mel", "nv"], 0), (None, 1)])
def test_a_single_output_is_for_the_class_that_is_named(classes, place):
    network = built(names=("nv", "mel"), load="made_networks:one_logit", output={"classes": classes})
    images = torch.rand(2, 3, 12, 12)
    single = network.body(images).sigmoid()
    torch.testing.assert_close(network(images).softmax(1)[:, place], single[:, 0])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["nv", "mal", "bcc"], "Unknown class 'mal'. Did you mean 'mel'"),
        (["nv", "mel", "bcc", "df"], "Unknown class 'df'.*A network for further classes cannot be judged"),
        (["nv", "mel"], "'bcc', a class of the data, is missing"),
    ],
)
def test_classes_that_are_not_those_of_the_data(classes, message):
    with pytest.raises(ModelError, match=rf"^models\.mine\.output\.classes: {message}"):
        built(output={"classes": classes})


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"classes": ["nv", "mel", "nv"]}, r"\.classes names 'nv' twice"),
        ({"classes": []}, r"\.classes: .*at least 1"),
        ({"kind": "softmax"}, r"\.kind: Input should be 'logits', 'probabilities', 'regions' or 'decisions'"),
        ({"tak": 1}, r": Unknown key 'tak'. Did you mean 'take'"),
        ("logits", r" must hold keys such as take, kind and classes; got 'logits'"),
    ],
)
def test_outputs_that_cannot_be(output, message):
    with pytest.raises(StudyError, match=rf"models\.mine\.output{message}"):
        built(output=output)


def test_what_is_not_said_leaves_the_recipe_as_it_was():
    """Else no finished work of former versions would be found again."""
    plain = {"name": "unet"}
    assert set(recipe(model_spec(plain, Task.SEGMENTATION))["input"]) == {"channels", "mean", "std", "size"}
    assert "output" not in recipe(model_spec(plain, Task.SEGMENTATION))
    recipes = [
        recipe(model_spec(plain | said, Task.SEGMENTATION))
        for said in ({}, {"input": {"pad": 8}}, {"input": {"window": {"size": 8}}}, {"output": {"take": 0}})
    ]
    assert all(recipes.count(each) == 1 for each in recipes)


def test_a_network_given_in_python_is_known_by_its_form():
    body = classifier(2, 3)
    recipes = [
        recipe(model_spec({"name": "mine", "load": network}, Task.CLASSIFICATION))
        for network in (
            Network(body),
            Network(body, scale=(0, 255)),
            Network(body, kind="probabilities"),
            Network(body, output=lambda output: output),
            Network(body, output=lambda output: output * 2),
        )
    ]
    assert all(recipes.count(each) == 1 for each in recipes)


@pytest.mark.parametrize(
    ("load", "args", "kept"),
    [
        ("torchvision_like", {}, {"width": 4}),
        ("torchvision_like", {"width": 9}, {"width": 9}),
        ("torchvision_like", {"num_classes": 3, "progress": False}, {}),
        ("Squeezing", {"width": 9, "layers": [3]}, {"width": 9}),
        ("timm_like", {}, {}),
        ("timm_like", {"drop": 0.5}, {}),
        ("keyword_only", {}, {}),
        ("keyword_only", {"depth": [2, 2]}, {}),
        ("both", {"width": 5}, {}),
    ],
)
def test_arguments_have_the_usual_names(load, args, kept):
    network = built(load=f"libraries:{load}", args=args)
    assert network(torch.rand(2, 3, 12, 12)).shape == (2, 3)
    assert all(getattr(network.body, key) == value for key, value in kept.items())
    assert network.recipe["parameters"].items() >= args.items()
    json.dumps(network.recipe)


def test_arguments_of_a_class():
    entry = {"name": "mine", "load": "libraries:MonaiLike", "args": {"channels": [8, 16], "norm": "instance"}}
    spec = model_spec(entry, Task.SEGMENTATION)
    network = build(spec, classes=4, channels=1, shape=(12, 12))
    assert network(torch.rand(2, 1, 12, 12)).shape == (2, 4, 12, 12)
    assert (network.body.channels, network.body.norm) == ([8, 16], "instance")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"load": "libraries:MonaiLike", "args": {"chanels": 3}},
            "args: Unknown argument 'chanels'. Did you",
        ),
        (
            {"load": "libraries:torchvision_like", "args": {"widht": 3}},
            "Unknown argument 'widht'. Did you mean",
        ),
        ({"load": "libraries:both", "args": [3]}, r"args must hold arguments by their names; got \[3\]"),
        ({"load": "libraries:timm_like", "args": {"a": nn.ReLU}}, "args may hold numbers, words, lists"),
        ({"architecture": "resnet18", "args": {"a": 3}}, "args: is for what `load` names"),
    ],
)
def test_arguments_that_cannot_be(entry, message):
    with pytest.raises(StudyError, match=f"models.mine.{message}" if "args" in message[:5] else message):
        model_spec({"name": "mine", **entry}, Task.CLASSIFICATION)


def test_an_argument_that_is_missing():
    with pytest.raises(
        ModelError, match=r"MonaiLike` failed: TypeError.*'channels'. Arguments are given in `args`"
    ):
        built(load="libraries:MonaiLike")


class Counted(TorchDispatchMode):
    """Counts operations that compute, rather than look at the same numbers in another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("said", "added"),
    [
        ({}, ["clone"]),
        ({"mean": 0.0, "std": 1.0, "scale": (0, 1)}, ["clone"]),
        ({"mean": (0.5, 0.4, 0.3), "std": 0.25, "scale": (0, 255)}, ["addcmul"]),
        ({"size": 12, "pad": 4}, ["clone"]),
    ],
)
def test_a_wrapper_adds_one_operation(said, added):
    """So that it takes no time beside the tens of operations of a network."""
    body, images = classifier(2, 3), torch.rand(2, 3, 12, 12)
    plain, wrapped = Counted(), Counted()
    with torch.inference_mode():
        with plain:
            body(images)
        network = Network(body, **said)
        with wrapped:
            network(images)
    assert wrapped.names == added + plain.names
