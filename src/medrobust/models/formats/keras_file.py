"""Keras 3: a `.keras` file, which holds the network with its weights for any backend.

On PyTorch, which is taken unless the environment variable KERAS_BACKEND says otherwise, it is a network like
any other, with gradients. On another backend it is a black box.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medrobust.errors import ModelError
from medrobust.models.formats.loaded import UNSAID, ChannelsLast, Loaded, library, of_shape


def read(path: Path, *, inputs: Mapping[str, tuple[float, ...]] | None = None) -> Loaded:
    """A network for images whose channels are last.

    Args:
        path: Its file. Lambda layers, which are code, are refused.
        inputs: Constants for its inputs besides the image, by name; the same for every case.

    Raises:
        ModelError: An input besides the image has no constant, or one of another length.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = library("keras", "keras")
    with keras.device("cpu"):
        loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
        output, assumed = _logits(keras, loaded.outputs[0])
        network = keras.Model(loaded.inputs, output)  # its inputs are a list, whatever they were
    constants = _constants(loaded.inputs, dict(inputs or {}))
    if constants:
        given = ", ".join(f"{name} {list(values)}" for name, values in constants.items())
        assumed.append(f"Besides the image every case gets {given}.")
    if keras.backend.backend() == "torch":
        body: nn.Module = _Keras(keras, network, constants)
    else:
        body = _BlackBox(keras, network, constants, path)
        assumed.append(f"It runs on {keras.backend.backend()} as a black box without gradients.")
    batch, *sides, channels = next(each.shape for each in loaded.inputs if each.name not in constants)
    body, declared, sizes = of_shape(ChannelsLast(body), [batch, channels, *sides])
    return Loaded(body, input=declared, assumed=(*assumed, *sizes, UNSAID))


class _Keras(nn.Module):
    """A network on Keras' backend of PyTorch, which puts tensors where Keras thinks they should be."""

    def __init__(self, keras: Any, network: Any, constants: Mapping[str, tuple[float, ...]]) -> None:
        super().__init__()
        self.keras, self.network = keras, network
        self.names = [each.name for each in network.inputs]
        self.constants = {name: torch.tensor(values) for name, values in constants.items()}

    def forward(self, images: Tensor) -> Tensor:
        """The first output for images `n *space c`."""
        with self.keras.device(str(images.device)):
            made: Tensor = self.network(self.given(images), training=self.training)
        return made

    def given(self, images: Tensor) -> list[Tensor]:
        """Every input of the network."""
        return [
            self.constants[name].to(images).expand(len(images), -1) if name in self.constants else images
            for name in self.names
        ]


class _BlackBox(_Keras):
    """A network on another backend. Its buffer is the hash of its file, which stands for its weights."""

    def __init__(
        self, keras: Any, network: Any, constants: Mapping[str, tuple[float, ...]], path: Path
    ) -> None:
        super().__init__(keras, network, constants)
        content = bytearray(hashlib.sha256(path.read_bytes()).digest())
        self.register_buffer("content", torch.frombuffer(content, dtype=torch.uint8))

    def forward(self, images: Tensor) -> Tensor:
        """The first output for images `n *space c`, without a gradient."""
        made = self.network([each.detach().cpu().numpy() for each in self.given(images)], training=False)
        return torch.tensor(self.keras.ops.convert_to_numpy(made), device=images.device)


def _logits(keras: Any, output: Any) -> tuple[Any, list[str]]:
    """The output without the softmax or sigmoid at its end, which is taken off a layer in place."""
    last = output._keras_history.operation
    if isinstance(last, keras.layers.Softmax):
        return last.input, ["Its last softmax was taken off, so that it returns logits."]
    kind = getattr(getattr(last, "activation", None), "__name__", "")
    if kind not in ("softmax", "sigmoid"):
        return output, []
    last.activation = keras.activations.linear
    return output, [f"Its last {kind} was taken off, so that it returns logits."]


def _constants(inputs: list[Any], said: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    """The constants of all inputs but that of the image, the only one that has sides.

    Raises:
        ModelError: One is missing, has another length, or is for no input.
    """
    others = {each.name: each.shape[1:] for each in inputs if len(each.shape) == 2}
    if len(inputs) - len(others) != 1:
        raise ModelError(f"it takes {len(inputs) - len(others)} images, but a case has one.")
    for name, (length,) in others.items():
        if len(said.get(name, ())) != length:
            raise ModelError(
                f"besides the image it takes '{name}', {length} numbers that no study has. Give the same "
                f"ones for every case: inputs: {{{name}: [...]}}."
            )
    for name in said.keys() - others.keys():
        known = ", ".join(others) or "none"
        raise ModelError(f"inputs.{name}: it has no such input besides the image. Inputs: {known}.")
    return {name: said[name] for name in others}
