"""Networks as people write them: what can work works, the rest is refused in a sentence before any work."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from medrobust.core import Case, Dataset, NetworkId, Role, Sample, Task
from medrobust.errors import ModelError
from medrobust.models import (
    Network,
    build,
    check_network,
    has_gradient,
    model_spec,
    to_channels_last,
    weights_sha256,
)
from medrobust.running.setup import fresh_network
from medrobust.running.train import check_training
from medrobust.study.training import TrainingConfig

SIDE = 12
CASES = tuple(Case(f"c{n}", f"c{n}", f"p{n}", label=n % 2) for n in range(6))

RUNS = [
    "plain",
    "tuple_in_training",
    "dict_of_logits",
    "one_logit",
    "one_logit_squeezed",
    "one_logit_flat",
    "squeezed",
    "half",
    "double",
    "bfloat16_inside",
    "in_place",
    "views",
    "lazy",
    "data_parallel",
    "compiled",
    "scripted",
    "traced",
    "zero_head",
    "partly_frozen",
    "norm_of_vectors",
    "prototypes",
    "masked_class",
    "checkpointed",
    "kept_positions",
    "counted_draws",
]
RUNS_ON_SLICES = ["stacked_levels", "listed_levels", "map_squeezed", "dict_of_maps"]

REFUSED = {
    "image_and_age": r"takes `age`, `sex` besides the image\. Say it in `input: \{further: \{age: \[\.\.\.\]",
    "exported": r"cannot be trained: .*torch\.export.*which cannot be trained",
    "frozen": r"cannot be trained: all of its weights are frozen",
    "no_weights": r"cannot be trained: it has no weights",
    "frozen_script": r"cannot be trained: it has no weights",
    "no_running_statistics": r"mixes the images of a batch, such as batch norm without running statistics",
    "no_running_statistics_behind_a_zero_head": r"mixes the images of a batch",
    "centred_on_the_batch": r"mixes the images of a batch",
    "attends_to_the_batch": r"mixes the images of a batch",
    "masked_class_centred_on_the_batch": r"mixes the images of a batch",
    "masked_class_dropout": r"random in evaluation mode too",
    "zero_branch_without_running_statistics": r"mixes the images of a batch",
    "largest_so_far": r"changes its largest in evaluation mode",
    "dropout_always": r"random in evaluation mode too, such as dropout with training=True",
    "dropout_of_small_logits": r"random in evaluation mode too",
    "noise_always": r"random in evaluation mode too",
    "counting": r"changes its seen in evaluation mode",
    "pairs_only": r"cannot take 3 images with 3 channels and size \(12, 12\)",
    "several_only": r"cannot take a single image .*ValueError: a batch of one has no median",
    "fails_in_training": r"cannot be trained: in training mode a batch of 2 fails with IndexError",
    "detached_in_training": r"in training mode its loss does not depend on any of its weights",
    "infinite_in_training": r"cannot be trained: in training mode its loss on made-up images is nan",
    "numpy_inside": r"has no gradient with respect to the image.*NumPy",
    "inference_mode_inside": r"has no gradient with respect to the image.*inference_mode",
    "input_detached": r"has no gradient with respect to the image",
    "not_a_number": r"returns non-finite values for made-up images",
    "clamped_softmax": r"returns probabilities: all values lie in \[0, 1\]",
    "mean_of_softmaxes": r"returns probabilities: all values lie in \[0, 1\]",
    "tanh_of_sigmoid": r"returns probabilities.*or `\{kind: logits\}`",
    "chosen_sigmoid": r"returns probabilities: all values lie in \[0, 1\]",
}


def dataset_of(task: Task) -> Dataset:
    def read(case: Case) -> Sample:
        raise AssertionError("a check needs no images of the study")

    return Dataset(
        name="made up",
        task=task,
        classes=("no", "yes"),
        unit="patient",
        channels=3,
        shape=(SIDE, SIDE),
        spacing=None,
        cases=CASES,
        read=read,
        fingerprint="",
    )


def fresh(name: str, task: Task = Task.CLASSIFICATION) -> Network:
    spec = model_spec({"name": "mine", "load": f"own_networks:{name}", "train": True}, task)
    return fresh_network(spec, dataset_of(task), network_id=NetworkId("mine", Role.TARGET, 0), seed=0)


def check(network: Network, task: Task = Task.CLASSIFICATION, **training: Any) -> None:
    """As a run does it."""
    cases = [replace(case, label=None, foreground=1) if task is Task.SEGMENTATION else case for case in CASES]
    to_channels_last(network)
    check_network(network, "mine", task=task, classes=2, images=images_of(4))
    check_training(network, dataset_of(task), cases, TrainingConfig(**training), "mine")


def images_of(n: int) -> torch.Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "task"),
    [(name, Task.CLASSIFICATION) for name in RUNS] + [(name, Task.SEGMENTATION) for name in RUNS_ON_SLICES],
)
def test_networks_that_run(name: str, task: Task) -> None:
    network = fresh(name, task)
    check(network, task)
    images, maps = images_of(3), (SIDE, SIDE) if task is Task.SEGMENTATION else ()
    logits = network(images)
    assert logits.dtype == torch.float32
    assert logits.shape == (3, 2, *maps)
    alone = torch.cat([network(image) for image in images.split(1)])
    torch.testing.assert_close(alone, logits, rtol=0.01 if name == "bfloat16_inside" else 1e-4, atol=1e-4)
    torch.testing.assert_close(images, images_of(3), rtol=0, atol=0)
    network.train()
    assert network(images).shape == (3, 2, *maps)


@pytest.mark.parametrize(
    "name",
    ["tuple_in_training", "dict_of_logits", "squeezed", "data_parallel", "compiled", "scripted", "traced"],
)
def test_what_is_put_around_a_network_changes_nothing(name: str) -> None:
    images = images_of(3)
    torch.testing.assert_close(fresh(name)(images), fresh("plain")(images))


@pytest.mark.parametrize("name", ["stacked_levels", "listed_levels"])
def test_training_looks_at_the_finest_level_of_deep_supervision(name: str) -> None:
    network, images = fresh(name, Task.SEGMENTATION), images_of(2)
    torch.testing.assert_close(network.train()(images), network.eval()(images))


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_networks_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=rf"models\.mine.* {message}"):
        check(fresh(name))


def test_the_smallest_batch_of_a_training_is_tried() -> None:
    check(fresh("norm_of_vectors"), batch_size=2)
    with pytest.raises(
        ModelError, match=r"in training mode a batch of 1 fails with ValueError: Expected more than"
    ):
        check(fresh("norm_of_vectors"), batch_size=1)


@pytest.mark.parametrize("name", ["plain", "zero_head", "lazy", "in_place", "dropout_always", "counting"])
def test_a_check_leaves_no_trace(name: str) -> None:
    network = fresh(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(ModelError, match=REFUSED[name]) if name in REFUSED else nullcontext():
        check_network(network, "mine", task=Task.CLASSIFICATION, classes=2, images=images_of(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not network.training
    assert all(weight.grad is None for weight in network.parameters())


def test_what_was_changed_is_noted() -> None:
    assert fresh("half").assumed == ("Its weights were torch.float16; they are used as float32.",)
    assert {weight.dtype for weight in fresh("bfloat16_inside").body.parameters()} == {torch.bfloat16}
    assert fresh("bfloat16_inside").assumed == fresh("plain").assumed == ()


@pytest.mark.parametrize(
    ("name", "said", "mean"),
    [
        ("plain", {}, 0.0),
        ("of_timm", {}, (0.1, 0.2, 0.3)),
        ("plain", {"mean": [0.1, 0.2, 0.3], "std": 0.5}, (0.1, 0.2, 0.3)),
        ("plain", {"channels": 3, "mean": 0.5}, 0.5),
    ],
)
def test_a_network_for_colours_gets_the_grey_image_in_each(
    name: str, said: dict[str, Any], mean: float | tuple[float, ...]
) -> None:
    grey = images_of(2)[:, :1]
    spec = model_spec({"name": "mine", "load": f"own_networks:{name}", "input": said}, Task.CLASSIFICATION)
    network = build(spec, classes=2, channels=1, shape=(SIDE, SIDE))
    assert network.input.channels == 3
    std = {"of_timm": torch.tensor([0.5, 0.6, 0.7])}.get(name, torch.tensor(said.get("std", 1.0)))
    colours = (grey - torch.tensor(mean).view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    torch.testing.assert_close(network(grey), network.body(colours.expand(-1, 3, -1, -1)))
    assert len(network.assumed) == (0 if said else 1)
    assert not network.body.norm.running_mean.any()


def test_grey_networks_and_what_the_study_says_of_channels_stay() -> None:
    for name, said in (("grey", {}), ("plain", {"channels": 1})):
        entry = {"name": "mine", "load": f"own_networks:{name}", "input": said}
        network = build(model_spec(entry, Task.CLASSIFICATION), classes=2, channels=1, shape=(SIDE, SIDE))
        assert network.input.channels == 1
        assert not network.assumed


def brought(name: str) -> Network:
    spec = model_spec({"name": "mine", "load": f"own_networks:{name}"}, Task.CLASSIFICATION)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(spec, classes=2, channels=3, shape=(SIDE, SIDE))


def test_functions_are_networks() -> None:
    images = images_of(4)
    plain = brought("plain")
    torch.testing.assert_close(brought("around_numpy")(images), plain(images) - 1)
    assert brought("forward_of").state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(brought("ask")(images)[:, 0], images.mean((1, 2, 3)))
    for name, attackable in (("around_numpy", False), ("forward_of", True), ("ask", True)):
        network = brought(name)
        check_network(
            network, "mine", task=Task.CLASSIFICATION, classes=2, images=images, attackable=attackable
        )
        assert has_gradient(network, 3, (SIDE, SIDE)) == attackable
    torch.testing.assert_close(brought("ask_for_json")(images), brought("ask")(images))
    with pytest.raises(ModelError, match=r"needs 'k'\. If it makes the network, give it in `args`"):
        brought("of_unknown")
    with pytest.raises(ModelError, match=r"Shown an image, .* failed: ConnectionError: 503"):
        brought("ask_in_vain")


def test_quantised_weights_of_other_libraries() -> None:
    network, images = brought("quantised"), images_of(4)
    assert type(network.body.head.weight).__name__ == "Packed"
    check_network(network, "mine", task=Task.CLASSIFICATION, classes=2, images=images)
    assert weights_sha256(network) == weights_sha256(brought("plain"))


def test_weights_that_are_frozen_stay_frozen_in_training() -> None:
    network = fresh("partly_frozen")
    check(network)
    assert network.body.stem.weight.grad is None
    assert network.body.head.weight.grad is not None


def test_a_network_of_many_logits_needs_a_row_for_each_image() -> None:
    network = Network(
        torch.nn.Flatten(0),
    )
    with pytest.raises(ModelError, match=r"output of shape \(864,\) for 2 images"):
        network(images_of(2))
