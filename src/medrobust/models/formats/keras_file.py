"""Keras 3: a `.keras` file, which holds the network with its weights for any backend.

On PyTorch, which is taken unless the environment variable KERAS_BACKEND says otherwise, it is a network like
any other, with gradients. On another backend it is a black box.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medrobust.models.formats.loaded import UNSAID, ChannelsLast, Loaded, library, of_shape, sorted_out


def read(path: Path) -> Loaded:
    """A network for images whose channels are last. Lambda layers, which are code, are refused.

    Raises:
        ModelError: It takes several images.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = library("keras", "keras")
    with keras.device("cpu"):
        loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
        output, assumed = _logits(keras, loaded.outputs[0])
        network = keras.Model(loaded.inputs, output)  # its inputs are a list, whatever they were
    shapes = {each.name: each.shape for each in loaded.inputs}
    image, further = sorted_out(shapes)
    if keras.backend.backend() == "torch":
        body: nn.Module = _Keras(keras, network)
    else:
        body = _BlackBox(keras, network, path)
        assumed.append(f"It runs on {keras.backend.backend()} as a black box without gradients.")
    batch, *sides, channels = shapes[image]
    body, declared, sizes = of_shape(ChannelsLast(body), [batch, channels, *sides])
    return Loaded(body, input=declared, assumed=(*assumed, *sizes, UNSAID), further=further)


class _Keras(nn.Module):
    """A network on Keras' backend of PyTorch, which puts tensors where Keras thinks they should be."""

    def __init__(self, keras: Any, network: Any) -> None:
        super().__init__()
        self.keras, self.network = keras, network
        self.names = [each.name for each in network.inputs]

    def forward(self, images: Tensor, **further: Tensor) -> Tensor:
        """The first output for images `n *space c`, and what else the network takes, `n d`."""
        with self.keras.device(str(images.device)):
            made: Tensor = self.network(
                [further.get(name, images) for name in self.names], training=self.training
            )
        return made


class _BlackBox(_Keras):
    """A network on another backend. Its buffer is the hash of its file, which stands for its weights."""

    def __init__(self, keras: Any, network: Any, path: Path) -> None:
        super().__init__(keras, network)
        content = bytearray(hashlib.sha256(path.read_bytes()).digest())
        self.register_buffer("content", torch.frombuffer(content, dtype=torch.uint8))

    def forward(self, images: Tensor, **further: Tensor) -> Tensor:
        """The first output for images `n *space c`, without a gradient."""
        given = [further.get(name, images).detach().cpu().numpy() for name in self.names]
        made = self.network(given, training=False)
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
