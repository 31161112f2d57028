"""Networks as files and folders: what `load:` may name besides a function. Each kind has its adapter.

An adapter fills in what the file itself says of preprocessing and output. None of them unpickles anything but
tensors: what needs the code of its author is refused in a sentence that says how to bring it.
"""

import hashlib
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from medrobust.errors import MedrobustError, ModelError, StudyError, reason
from medrobust.models.formats import bundle, exported, huggingface, keras_file, nnunet, onnx_file, torchscript
from medrobust.models.formats.loaded import Format, Loaded
from medrobust.models.weights import file_sha256, read_pickle

__all__ = [
    "Format",
    "Loaded",
    "content_digest",
    "format_of",
    "holds_network",
    "is_format",
    "open_format",
    "opener",
]

_TORCHSCRIPT = Format("TorchScript", torchscript.read, lambda path: [path])
_EXPORTED = Format("torch.export", exported.read, lambda path: [path])

_WEIGHTS = (".pt", ".pth", ".ts", ".pt2", ".ckpt", ".bin", ".safetensors")
"""Suffixes of what PyTorch and safetensors write; those of PyTorch are told apart by what they hold."""

_SUFFIXES = {
    ".onnx": Format("ONNX", onnx_file.read, onnx_file.files),
    ".keras": Format("Keras", keras_file.read, lambda path: [path]),
}

_FOLDERS = {
    "plans.json": Format("nnU-Net", nnunet.read, nnunet.files, revision=2),
    "configs/inference.*": Format("MONAI bundle", bundle.read, bundle.files, revision=2),
    "config.json": Format("Hugging Face", huggingface.read, huggingface.files),
}
"""What a folder must hold to be of a kind."""


def is_format(load: str) -> bool:
    """Whether `load` is the path of a file or folder, rather than `package.module:function`.

    >>> is_format("nets/best.onnx"), is_format("my_nets:build")
    (True, False)
    """
    if re.search(r":[A-Za-z_][\w.]*$", load):
        return False
    known = Path(load).suffix.lower() in (*_WEIGHTS, *_SUFFIXES)
    return known or os.sep in load or "/" in load or Path(load).exists()


def format_of(path: Path) -> Format:
    """The kind of a file or folder, from its name and its table of contents; nothing in it is run.

    Raises:
        StudyError: There is no such file or folder, or none of a known kind; of weights, how to use them.
    """
    if not path.exists():
        raise StudyError(
            f"there is no file or folder '{path}'. It is the path of a network, or `package.module:function`."
        )
    if path.is_dir():
        for name, found in _FOLDERS.items():
            if any(path.glob(name)):
                return found
        raise StudyError(
            f"the folder '{path}' holds no network that is known, which would have {_listed(_FOLDERS)} in it."
        )
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    members = _members(path)
    if any("/code/" in name for name in members):
        return _TORCHSCRIPT
    if any(name.endswith(("models/model.json", "serialized_exported_program.json")) for name in members):
        return _EXPORTED
    if suffix in _WEIGHTS:
        raise StudyError(f"'{path.name}' {_without_network(path)}")
    raise StudyError(
        f"'{path.name}' is of no kind that is known. A network is a file "
        f"({_listed([*_WEIGHTS, *_SUFFIXES])}), a folder, or `package.module:function`."
    )


def holds_network(path: Path) -> bool:
    """Whether a file or folder holds a network, and not only its weights."""
    try:
        format_of(path)
    except StudyError:
        return False
    return True


def opener(path: Path) -> Callable[..., Loaded]:
    """A function that opens a file or folder; its keyword-only arguments are what a study may say of it.

    Raises:
        StudyError: As `format_of`.
    """
    found = format_of(path)
    # Its arguments are found there, as those of an architecture are.
    return wraps(found.read)(lambda **options: open_format(path, options))


def open_format(path: Path, args: Mapping[str, Any]) -> Loaded:
    """Read a network.

    Args:
        path: File or folder.
        args: Options of its format.

    Raises:
        StudyError: As `format_of`.
        ModelError: It is damaged, needs a package that is not installed, or cannot be taken over as it is.
    """
    found = format_of(path)
    try:
        with _quietly():
            return found.read(path, **args)
    except MedrobustError as error:
        raise ModelError(f"'{path.name}' ({found.name}): {error}") from error
    except Exception as error:  # whatever a damaged file makes its library raise
        raise ModelError(f"'{path.name}' cannot be read as {found.name}: {reason(error)}.") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what a library says of its own future, and of a damaged file before it raises."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def content_digest(path: Path) -> str:
    """SHA-256 of what a network is made of; where it lies, and what else lies there, does not count.

    The revision of its format does.
    """
    found, digest = format_of(path), hashlib.sha256()
    for file in sorted(found.files(path)):
        digest.update(bytes.fromhex(file_sha256(file)))
    if found.revision > 1:
        digest.update(str(found.revision).encode())
    return digest.hexdigest()


def _without_network(path: Path) -> str:
    """What a file of PyTorch without a network holds, and what to do with it."""
    try:
        content = {} if path.suffix == ".safetensors" else read_pickle(path)
    except UnpicklingError as error:
        unsafe = str(error).partition("GLOBAL ")[2].partition(" ")[0]
        if unsafe:
            return (
                f"is pickled with {unsafe}, which only its own code can open. Put `def build(): return "
                f"torch.load('{path.name}', weights_only=False)` into a Python file beside the study, and "
                "name it in `load`: my_file:build."
            )
        return "is damaged, or no file of PyTorch. Save the network again."
    except Exception:  # whatever a damaged file raises
        return "is damaged, or no file of PyTorch. Save the network again."
    made_with = content.get("hyper_parameters") if isinstance(content, dict) else None
    given = ", ".join(f"{key}={value!r}" for key, value in made_with.items()) if made_with else ""
    return (
        "holds weights, but no network. Name the function or class that makes the network in `load` "
        "(package.module:function), and this file in `weights`."
        + (f" It was made with {given}." if given else "")
    )


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []
