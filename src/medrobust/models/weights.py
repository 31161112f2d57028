"""Weight files: safetensors, or a torch state dict that is read without running code from it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from medrobust.errors import ModelError, reason
from medrobust.models.network import Network

LARGEST_HEADER = 8 * 2**20
"""Bytes that name the tensors of a safetensors file; 50,000 tensors need about 5 MB."""

MOST_LISTED = 100
"""Tensors that do not fit and are listed in the message."""

_WRAPPERS = ("body.", "module.", "model.", "network.", "_orig_mod.")


def weights_content(network: Network) -> bytes:
    """The state dict of the network's body as the content of a safetensors file."""
    return save(
        {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in network.body.state_dict().items()
        }
    )


def load_content(network: Network, content: bytes, name: str) -> None:
    """Put what `weights_content` gave into a network.

    Args:
        network: Changed in place.
        content: Of a safetensors file.
        name: Of the file, for the message.

    Raises:
        ModelError: It is none, or its tensors do not fit.
    """
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ModelError(f"{name} is no file of weights: {reason(error)}.") from None
    _load(network.body, tensors, Path(name))


def load_weights(network: Network, path: Path, *, new_head: bool = False) -> None:
    """Read the weights of the network's body from a file.

    A wrapper's name before every key (`body.`, `module.`, `model.`, `network.`, `_orig_mod.`) and a dict
    around the state dict (`state_dict`, `model_state_dict`, `model`) are taken off.

    Args:
        network: Changed in place.
        path: `.safetensors`, or what `torch.save(model.state_dict())` wrote.
        new_head: Keep the network's own last layer where the file's is for another number of classes.

    Raises:
        ModelError: The file cannot be read, or tensors do not fit (the first 100 are listed).
    """
    own = network.body.state_dict()
    tensors = _without_wrapper(read_tensors(path), own)
    if new_head:
        tensors = _with_own_head(tensors, network.body, own)
    _load(network.body, tensors, path)


def load_in_order(network: Network, path: Path) -> None:
    """Read weights whose tensors have other names but the same order and shapes.

    The last layer may be for another number of classes.

    Raises:
        ModelError: The file cannot be read, or a tensor has another shape than the network's at its place.
    """
    own = network.body.state_dict()
    theirs = read_tensors(path)
    if len(own) != len(theirs):
        raise ModelError(
            f"{path} holds {len(theirs)} tensors, but the network has {len(own)}. Use another file."
        )
    renamed = dict(zip(own, theirs.values(), strict=True))
    _load(network.body, _with_own_head(renamed, network.body, own), path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file, by name.

    Raises:
        ModelError: The file is missing, is no weight file, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            _refuse_large_header(path)
            return load_file(path)
        _refuse_compressed(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"There is no weights file '{path}'. Give the path of one.") from None
    # A damaged file can raise nearly anything.
    except Exception as error:
        unsafe = str(error).partition("GLOBAL ")[2].partition(" ")[0]  # so torch says what it does not load
        why = f"it holds {unsafe}, which is no tensor" if unsafe else reason(error)
        raise ModelError(
            f"The weights file '{path}' cannot be read safely: {why}. "
            "Save it with `torch.save(model.state_dict(), path)` or as safetensors."
        ) from None
    return _state_dict(content, path)


def _refuse_large_header(path: Path) -> None:
    """Names of millions of empty tensors fit into a file that takes gigabytes of memory to read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise ValueError(
            f"its header claims {length / 2**20:,.0f} MB of names, and a network has less than 8"
        )


def _refuse_compressed(path: Path) -> None:
    """A small compressed file may unpack to more than any memory; torch never compresses."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError("it is compressed, and torch.save compresses nothing")


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise ModelError(
            f"The weights file '{path}' holds no state dict (names and tensors). "
            "Save it with `torch.save(model.state_dict(), path)`."
        )
    return dict(content)


def _without_wrapper(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take wrappers' names off as long as all keys have one and they are not the network's own."""
    while tensors and not tensors.keys() & own.keys():
        prefix = next((p for p in _WRAPPERS if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _with_own_head(
    tensors: dict[str, Tensor], body: nn.Module, own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The network's own last layer in place of one for another number of classes."""
    head = {
        name
        for part, module in body.named_modules()
        if hasattr(body, "get_classifier") and module is body.get_classifier()  # type: ignore[operator]
        for name in own
        if name.startswith(f"{part}.")
    }
    differs = any(name in tensors and tensors[name].shape != own[name].shape for name in head)
    return {**tensors, **{name: own[name] for name in head}} if differs else tensors


def _load(body: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    own = body.state_dict()
    problems = [f"{name}: missing in the file" for name in own if name not in tensors]
    problems += [f"{name}: unknown to the network" for name in tensors if name not in own]
    problems += [
        f"{name}: shape {tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in the network"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    problems += [
        f"{name}: {tensor.dtype} in the file, {own[name].dtype} in the network"
        for name, tensor in tensors.items()
        if name in own and tensor.is_floating_point() != own[name].is_floating_point()
    ]
    if problems:
        listed = "\n  ".join(problems[:MOST_LISTED])
        if len(problems) > MOST_LISTED:
            listed += f"\n  and {len(problems) - MOST_LISTED} more"
        raise ModelError(f"{len(problems)} tensors of '{path}' do not fit the network:\n  {listed}")
    try:
        body.load_state_dict(tensors)
    except RuntimeError as error:  # of the right shape, but sparse or without any values
        raise ModelError(f"The tensors of '{path}' cannot be used: {reason(error)}.") from None
