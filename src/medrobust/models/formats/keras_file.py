"""Keras 3: a `.keras` file, which holds the network with its weights for any backend.

On the backend of PyTorch, which is taken unless KERAS_BACKEND says otherwise, it is a network like any other, with
gradients. On another one it is a black box.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medrobust.errors import ModelError
from medrobust.models.formats.loaded import UNSAID, ChannelsLast, Loaded, file_sha256, library, of_shape


def read(path: Path, *, inputs: Mapping[str, Sequence[float]] | None = None) -> Loaded:
    """A network for images whose channels are last.

    Args:
        path: Its file. Lambda layers, which are code, are refused.
        inputs: Constants for inputs besides the image, by name: the same for every case.

    Raises:
        ModelError: An input besides the image has no constant, or one of another length.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = library("keras", "keras")
    with keras.device("cpu"):
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    assumed = list(_without_activation(keras, network))
    constants, images = _constants(network, dict(inputs or {}))
    kind = keras.backend.backend()
    if kind == "torch":
        body: nn.Module = _Keras(network, constants)
    else:
        body = _OtherBackend(keras, network, constants, path)
        assumed.append(f"It runs on Keras' backend {kind} as a black box without gradients.")
    if constants:
        given = ", ".join(f"{name} {value.tolist()}" for name, value in constants.items() if value is not None)
        assumed.append(f"Besides the image every case gets {given}.")
    batch, *sides, channels = images.shape
    body, declared, sizes = of_shape(ChannelsLast(body), [batch, channels, *sides])
    return Loaded(body, input=declared, assumed=(*assumed, *sizes, UNSAID))
