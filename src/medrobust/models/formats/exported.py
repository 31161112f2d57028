"""Programs of torch.export: a network with its weights, as `torch.export.save` writes it."""

import io
import json
import zipfile
from pathlib import Path

import torch
from torch import nn

from medrobust.errors import ModelError
from medrobust.models.formats.loaded import UNSAID, Loaded, Positional, of_shape, sorted_out

_OBJECTS = ("custom_obj", "opaque_obj")
"""What the names of constants begin with that are no tensors."""


def read(path: Path) -> Loaded:
    """A program. It keeps the sizes it was exported for: those of the images, and often that of a batch.

    Raises:
        ModelError: It takes several images, or something in it would have to be unpickled.
    """
    _refuse_pickles(path)
    program = torch.export.load(path)
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    shapes = {
        node.name: [side if isinstance(side, int) else None for side in node.meta["val"].shape]
        for node in inputs
    }
    image, further = sorted_out(shapes)
    module: nn.Module = program.module()
    body, declared, assumed = of_shape(Positional(module, list(shapes)) if further else module, shapes[image])
    return Loaded(body, input=declared, assumed=(*assumed, UNSAID), further=further)


def _refuse_pickles(path: Path) -> None:
    """See that `torch.export.load`, which unpickles whatever it meets, meets nothing but tensors."""
    with zipfile.ZipFile(path) as archive:
        members = {Path(name).name: name for name in archive.namelist()}
        pickled = {name for name in members if name.endswith(".pt") or name.startswith(_OBJECTS)}
        for name in members:
            if name.endswith(("weights_config.json", "constants_config.json")):
                entries = json.loads(archive.read(members[name]))["config"].values()
                pickled |= {entry["path_name"] for entry in entries if entry["use_pickle"]}
        for name in sorted(pickled & members.keys()):
            try:
                torch.load(io.BytesIO(archive.read(members[name])), weights_only=True)
            except Exception:  # whatever a damaged or hostile pickle raises
                raise ModelError(
                    f"its part '{name}' holds more than tensors and would have to be unpickled, which may "
                    "run any code. Name a function that opens it in `load`: package.module:function."
                ) from None
