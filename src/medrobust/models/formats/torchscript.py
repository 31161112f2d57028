"""TorchScript: a network with its weights, as `torch.jit.save` writes it."""

from pathlib import Path

import torch

from medrobust.models.formats.loaded import UNSAID, Loaded


def read(path: Path) -> Loaded:
    """A scripted or traced network."""
    body = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return Loaded(body, assumed=(UNSAID,))
