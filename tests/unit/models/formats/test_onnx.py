"""ONNX files, in PyTorch where they can be converted and in onnxruntime where not."""

import numpy as np
import pytest
import torch
from torch import nn

from made_formats import CLASSES, SIDE, assert_same, classifier, images, network_of, segmenter
from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.models import weights_sha256
from medrobust.models.formats import content_digest, onnx_file, open_format

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx2torch")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def _export(body: nn.Module, shown: torch.Tensor, path, opset: int = 17, *, any_batch: bool = True) -> None:
    axes = {"images": {0: "n"}, "logits": {0: "n"}} if any_batch else None
    torch.onnx.export(
        body,
        (shown,),
        path,
        dynamo=False,
        opset_version=opset,
        dynamic_axes=axes,
        input_names=["images"],
        output_names=["logits"],
    )


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("any_batch", [True, False])
def test_it_is_the_network_with_its_gradient(opset, any_batch, tmp_path):
    _export(classifier(), images(2), tmp_path / "net.onnx", opset, any_batch=any_batch)
    network = network_of(tmp_path / "net.onnx")
    assert_same(network, classifier(), images())
    assert any("has gradients" in sentence for sentence in network.assumed)
    assert (network.input.channels, network.input.size) == (3, (SIDE, SIDE))


def test_volumes(tmp_path):
    shown = images(2, 1, (8, 8, 6))
    _export(segmenter(space=3), shown, tmp_path / "net.onnx")
    network = network_of(tmp_path / "net.onnx", Task.SEGMENTATION, channels=1, shape=(8, 8, 6))
    assert_same(network, segmenter(space=3), shown)


class _Shared(nn.Module):
    """What exporters write in newer words: shared weights, a GELU, a reshape with a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3 * SIDE * SIDE, 8), nn.Linear(8, CLASSES)
        self.second.bias = self.first.bias = nn.Parameter(torch.zeros(()))

    def forward(self, shown):
        return self.second(nn.functional.gelu(self.first(shown.reshape(-1, 3 * SIDE * SIDE))))


def test_newer_operators_are_put_into_older_words(tmp_path):
    body = _Shared().eval()
    _export(body, images(), tmp_path / "net.onnx", 20)
    assert {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node} >= {"Gelu"}
    assert_same(network_of(tmp_path / "net.onnx"), body, images())


@pytest.mark.parametrize("activation", [nn.Softmax(1), nn.Sigmoid()])
@pytest.mark.parametrize("gradient", [True, False])
def test_the_last_activation_is_taken_off(activation, gradient, tmp_path):
    _export(nn.Sequential(classifier(), activation), images(), tmp_path / "net.onnx")
    network = network_of(tmp_path / "net.onnx", gradient=gradient)
    with torch.no_grad():
        torch.testing.assert_close(network(images()), classifier()(images()))
    assert any("was taken off" in sentence for sentence in network.assumed)


def test_a_black_box_gives_the_same_logits_without_a_gradient(tmp_path):
    _export(classifier(), images(), tmp_path / "net.onnx")
    network = network_of(tmp_path / "net.onnx", gradient=False)
    shown = images().requires_grad_()
    logits = network(shown)
    torch.testing.assert_close(logits, classifier()(images()))
    assert not logits.requires_grad
    assert any("black box" in sentence for sentence in network.assumed)


def test_black_boxes_are_told_apart_by_their_content(tmp_path):
    other = classifier()
    with torch.no_grad():
        other[-1].bias += 1
    boxes = []
    for name, body in {"a": classifier(), "b": other, "c": classifier()}.items():
        _export(body, images(), tmp_path / f"{name}.onnx")
        boxes.append(weights_sha256(network_of(tmp_path / f"{name}.onnx", gradient=False)))
    assert boxes[0] == boxes[2] != boxes[1]


@pytest.mark.parametrize("wrong", ["raises", "differs"])
def test_what_cannot_be_converted_is_a_black_box_and_says_why(wrong, tmp_path, monkeypatch):
    _export(classifier(), images(), tmp_path / "net.onnx")

    def convert(model):
        if wrong == "raises":
            raise NotImplementedError("Converter is not implemented (Strange)")
        return segmenter(3)

    monkeypatch.setattr("onnx2torch.convert", convert)
    loaded = open_format(tmp_path / "net.onnx", {})
    assert isinstance(loaded.body, onnx_file.BlackBox)
    assert any("black box" in sentence and "onnx2torch" in sentence for sentence in loaded.assumed)


def test_images_with_their_channels_last(tmp_path):
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = segmenter(3)

        def forward(self, shown):
            return self.body(shown.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    _export(Last().eval(), images().movedim(1, -1), tmp_path / "net.onnx")
    assert_same(network_of(tmp_path / "net.onnx", Task.SEGMENTATION), segmenter(3), images())


def test_weights_beside_the_graph_count(tmp_path):
    path = tmp_path / "net.onnx"
    _export(classifier(), images(), path)
    before = network_of(path)(images())
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert set(onnx_file.files(path)) == {path, tmp_path / "net.data"}
    torch.testing.assert_close(network_of(path)(images()), before)
    digest = content_digest(path)
    content = np.fromfile(tmp_path / "net.data", np.uint8)
    content[-4:] ^= 1
    content.tofile(tmp_path / "net.data")
    assert content_digest(path) != digest


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "net.onnx"
    _export(classifier(), images(), path)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ModelError, match=r"models\.mine: 'net\.onnx' cannot be read as ONNX: ") as raised:
        network_of(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("gradient", [True, False])
def test_other_inputs_are_what_the_study_says(gradient, tmp_path):
    class Two(nn.Module):
        def forward(self, age, shown):
            return shown.mean((2, 3)) * age

    path, names = tmp_path / "net.onnx", ["age", "image"]
    free = {name: {0: "n"} for name in (*names, "said")}
    torch.onnx.export(
        Two(), (torch.rand(3, 1), images()), path, dynamo=False, input_names=names, output_names=["said"],
        dynamic_axes=free,
    )  # fmt: skip
    network = network_of(path, gradient=gradient, input={"further": {"age": [{"of": "age"}]}})
    told = network.told([{"age": 3}, {"age": 5}, {}])
    assert any("has gradients" in sentence for sentence in network.assumed) == gradient
    expected = images().mean((2, 3)) * torch.tensor([[3.0], [5.0], [0.0]])
    torch.testing.assert_close(told(images()), expected)
    with pytest.raises(
        ModelError, match=r"input\.further: besides the image it takes 'age', 1 numbers, got 0"
    ):
        network_of(path)


def test_other_inputs_that_no_study_has_are_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, shown, former):
            return shown.mean((2, 3)) + former.mean((2, 3))

    path = tmp_path / "net.onnx"
    torch.onnx.export(Two(), (images(), images()), path, dynamo=False, input_names=["image", "former"])
    with pytest.raises(ModelError, match=r"it takes image \[3, 3, .*former \[.*but a case has one image"):
        network_of(path)
    torch.onnx.export(classifier(), (images(),), path, dynamo=False)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    onnx.save(model, path)
    with pytest.raises(ModelError, match="takes integers"):
        network_of(path)
