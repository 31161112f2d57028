"""Keras 3 files, on the backend of PyTorch and on JAX's as a black box."""

import os
import subprocess
import sys

import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

from made_formats import CLASSES, SIDE, assert_same, images, network_of  # noqa: E402
from medrobust.core import Task  # noqa: E402
from medrobust.errors import ModelError  # noqa: E402
from medrobust.models import check_network  # noqa: E402
from medrobust.models.formats import open_format  # noqa: E402

layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def _classifier(activation="softmax", *, apart=False):
    keras.utils.set_random_seed(0)
    head = (
        [layers.Dense(CLASSES), layers.Softmax()] if apart else [layers.Dense(CLASSES, activation=activation)]
    )
    body = keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 3)),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            *head,
        ]
    )
    body.layers[1].moving_mean.assign([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    return body


@pytest.fixture(autouse=True)
def _kept_generators():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("apart", [True, False])
def test_it_is_the_network_without_its_softmax(apart, tmp_path):
    body = _classifier(apart=apart)
    body.save(tmp_path / "net.keras")
    network = network_of(tmp_path / "net.keras")

    def plain(shown):  # logits but for a constant, which a softmax does not see
        return body(shown.movedim(1, -1), training=False).log()

    assert_same(lambda shown: network(shown).log_softmax(1), plain, images())
    assert any("Its last softmax was taken off" in sentence for sentence in network.assumed)
    assert (network.input.channels, network.input.size) == (3, (SIDE, SIDE))
    check_network(network, "mine", task=Task.CLASSIFICATION, classes=CLASSES, images=images())


def test_maps_have_their_channels_first(tmp_path):
    body = keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(CLASSES, 3, padding="same")])
    body.save(tmp_path / "net.keras")
    network = network_of(tmp_path / "net.keras", Task.SEGMENTATION)
    assert_same(network, lambda shown: body(shown.movedim(1, -1)).movedim(-1, 1), images())


def test_other_inputs_are_what_the_study_says(tmp_path):
    image, meta = layers.Input((SIDE, SIDE, 3), name="image"), layers.Input((2,), name="meta")
    pooled = layers.GlobalAveragePooling2D()(image)
    body = keras.Model([image, meta], layers.Dense(CLASSES)(layers.Concatenate()([pooled, meta])))
    path = tmp_path / "net.keras"
    body.save(path)
    network = network_of(path, input={"further": {"meta": [0.5, {"of": "age", "divide": 10}]}})
    rows = torch.tensor([[0.5, 3.0], [0.5, 4.0], [0.5, 0.0]])
    told = network.told([{"age": 30}, {"age": "40"}, {}])
    torch.testing.assert_close(told(images()), body([images().movedim(1, -1), rows]))
    for said, message in [
        ({}, r"models\.mine\.input\.further: besides the image it takes 'meta', 2 numbers, got 0"),
        ({"meta": [1.0]}, "takes 'meta', 2 numbers, got 1"),
        ({"meta": [1.0, 2.0], "age": [1.0]}, r"Unknown input 'age'\..*Known: meta"),
    ]:
        with pytest.raises(ModelError, match=message):
            network_of(path, input={"further": said})


def test_code_is_not_run(tmp_path):
    body = keras.Sequential([layers.Input((SIDE, SIDE, 3)), layers.Lambda(lambda shown: shown)])
    body.save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match=r"'net\.keras' cannot be read as Keras: .*[Ll]ambda"):
        open_format(tmp_path / "net.keras", {})
    (tmp_path / "net.keras").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"'net\.keras' cannot be read as Keras: "):
        open_format(tmp_path / "net.keras", {})


def test_another_backend_is_a_black_box(tmp_path):
    pytest.importorskip("jax")
    body = _classifier()
    body.save(tmp_path / "net.keras")
    expected = body(images().movedim(1, -1), training=False)
    torch.save(expected.detach(), tmp_path / "expected.pt")
    code = f"""
import torch
from made_formats import images, network_of
network = network_of({str(tmp_path / "net.keras")!r})
logits = network(images().requires_grad_())
assert not logits.requires_grad and len(network.state_dict()) == 1, network.state_dict()
torch.testing.assert_close(logits.softmax(1), torch.load({str(tmp_path / "expected.pt")!r}))
assert "It runs on jax as a black box without gradients." in network.assumed, network.assumed
"""
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
