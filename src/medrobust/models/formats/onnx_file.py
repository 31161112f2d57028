"""ONNX: a network as a graph, differentiable where onnx2torch can make a network of PyTorch of it.

onnx2torch knows the operators up to opset 17, but exporters write newer ones, share weights through nodes,
and keep flags that change nothing, so the graph is put into older words first. The result is compared with
onnxruntime; where it differs, or cannot be made, onnxruntime itself is the network, as a black box.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medrobust.errors import ModelError, reason
from medrobust.models.formats.loaded import (
    UNSAID,
    ChannelsLast,
    Loaded,
    Positional,
    library,
    of_shape,
    sorted_out,
)
from medrobust.perturbations.outputs import main_output

OPSET = 17
"""The newest operators that onnx2torch knows."""

TOLERANCE = 1e-3
"""Largest difference from onnxruntime, relative to the largest output, that rounding may make."""

TRIED = {4: 64, 5: 32}
"""Side of made-up images, by number of axes, where the file says none."""


def read(path: Path, *, gradient: bool = True) -> Loaded:
    """A graph.

    Args:
        path: Its file; weights in files beside it are read too.
        gradient: Convert it into a network of PyTorch, which has gradients; else it is a black box.

    Raises:
        ModelError: It takes several images, or no floating-point numbers.
    """
    model = library("onnx", "onnx").load(path)
    shapes = _shapes(model)
    image, further = sorted_out(shapes)
    assumed, shape = [*_without_activation(model)], shapes[image]
    box = BlackBox(model)
    body: nn.Module = box
    if gradient:
        try:
            body, difference = _converted(model, box, shapes)
            assumed.append(f"onnx2torch made a network of it that has gradients, {difference}.")
        except Exception as error:  # whatever onnx2torch makes of an operator that it does not know
            why = str(error) if isinstance(error, ModelError) else f"onnx2torch fails ({reason(error)})"
            assumed.append(f"It runs in onnxruntime as a black box without gradients: {why}.")
    else:
        assumed.append("It runs in onnxruntime as a black box without gradients, as `gradient: false` asks.")
    if len(shape) > 3 and shape[-1] in (1, 3, 4) and shape[1] not in (1, 3, 4):
        body, shape = ChannelsLast(body), [shape[0], shape[-1], *shape[1:-1]]
        assumed.append("It takes images with their channels last.")
    body, declared, sizes = of_shape(body, shape)
    return Loaded(body, input=declared, assumed=(*assumed, *sizes, UNSAID), further=further)


def files(path: Path) -> list[Path]:
    """The graph, and the files beside it that hold its weights.

    Raises:
        ModelError: The package `onnx` is not installed.
    """
    onnx = library("onnx", "onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # damaged; `read` says so
        return [path]
    tensors = onnx.external_data_helper._get_all_tensors(model)
    names = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return [path, *(path.parent / name for name in names)]


class BlackBox(nn.Module):
    """A graph in onnxruntime: outputs without gradients.

    Its buffer is the graph's hash, which tells two of them apart as weights do.
    """

    content: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        runtime = library("onnxruntime", "onnx")
        graph = model.SerializeToString()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        self.session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.given = self.session.get_inputs()
        digest = torch.frombuffer(bytearray(hashlib.sha256(graph).digest()), dtype=torch.uint8)
        self.register_buffer("content", digest)

    def forward(self, images: Tensor, **further: Tensor) -> tuple[Tensor, ...]:
        """Every output for a batch of images, and of what else the graph takes, `n d`."""
        shown = {
            each.name: further.get(each.name, images).detach().cpu().numpy().astype(_FLOATS[each.type])
            for each in self.given
        }
        return tuple(torch.from_numpy(each).to(images.device) for each in self.session.run(None, shown))


_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


def _shapes(model: Any) -> dict[str, list[int | None]]:
    """Shapes of the inputs of a graph that are not among its weights; None is a side that may be anything.

    Raises:
        ModelError: One takes integers.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in weights]
    for given in inputs:
        if given.type.tensor_type.elem_type not in (1, 10, 11):
            raise ModelError(
                f"its input '{given.name}' takes integers. Export the network without the conversion from "
                "integers, for images in floating point."
            )
    return {
        given.name: [side.dim_value or None for side in given.type.tensor_type.shape.dim] for given in inputs
    }


def _without_activation(model: Any) -> Iterator[str]:
    """Take a softmax or sigmoid off the end, in place."""
    graph = model.graph
    last = next((node for node in graph.node if node.output[0] == graph.output[0].name), None)
    if last is not None and last.op_type in ("Softmax", "Sigmoid"):
        graph.output[0].name = last.input[0]
        graph.node.remove(last)
        yield f"Its last {last.op_type.lower()} was taken off, so that it returns logits."


def _converted(
    model: Any, box: BlackBox, shapes: Mapping[str, Sequence[int | None]]
) -> tuple[nn.Module, str]:
    """A network of PyTorch, and how far it is from onnxruntime on made-up images."""
    convert = library("onnx2torch", "onnx").convert
    generator = torch.Generator().manual_seed(0)
    tried = {}
    for name, shape in shapes.items():
        sides = [side or (TRIED.get(len(shape), 64) if axis > 1 else 3) for axis, side in enumerate(shape)]
        tried[name] = torch.rand([shape[0] or 2, *sides[1:]], generator=generator)
    image, further = sorted_out(shapes)
    images = tried.pop(image)
    (theirs, *_) = box(images, **tried)
    body: nn.Module = convert(_in_older_words(deepcopy(model))).eval()
    if further:
        body = Positional(body, list(shapes))
    with torch.no_grad():
        ours = main_output(body(images, **tried))
    difference = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))
    if ours.shape != theirs.shape or not difference <= TOLERANCE:
        raise ModelError(
            f"what onnx2torch makes of it differs from it by {difference:.2g} of the largest output"
        )
    return body, f"and differs from onnxruntime by {difference:.1g} of the largest output on made-up images"


def _in_older_words(model: Any) -> Any:
    """The same graph for onnx2torch, which is changed in place."""
    onnx = library("onnx", "onnx")
    graph, nodes = model.graph, []
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in weights:  # a tensor that two layers share
            shared = deepcopy(weights[node.input[0]])
            shared.name = node.output[0]
            weights[shared.name] = shared
            graph.initializer.append(shared)
        elif node.op_type == "Gelu":
            nodes += _gelu(onnx, node, graph)
        else:
            if node.op_type == "Reshape" and node.input[1] in weights:
                sides = onnx.numpy_helper.to_array(weights[node.input[1]])
                flags = [flag for flag in node.attribute if flag.name == "allowzero" and sides.all()]
                for flag in flags:
                    node.attribute.remove(flag)
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except RuntimeError:  # it lacks converters of operators that only take more types than before
        for opset in model.opset_import:
            if opset.domain == "":
                opset.version = OPSET
        return model


def _gelu(onnx: Any, node: Any, graph: Any) -> list[Any]:
    """GELU of older operators: x (1 + erf(x / sqrt(2))) / 2."""
    (images,), (output,) = node.input, node.output
    if any(flag.s == b"tanh" for flag in node.attribute):
        raise ModelError("onnx2torch has no Gelu that is approximated by tanh")
    values = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, np.float32), f"{output}/{name}")
        for name, value in values.items()
    )
    steps = [
        ("Div", images, "root"),
        ("Erf", "0", None),
        ("Add", "1", "one"),
        ("Mul", images, "2"),
        ("Mul", "3", "half"),
    ]
    made = []
    for place, (operator, *operands) in enumerate(steps):
        names = [each if each == images else f"{output}/{each}" for each in operands if each is not None]
        made.append(onnx.helper.make_node(operator, names, [output if place == 4 else f"{output}/{place}"]))
    return made
