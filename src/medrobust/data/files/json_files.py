"""JSON files that come with data, read with an eye on what people's files really hold."""

import json
from pathlib import Path
from typing import Any

from medrobust.errors import DataError
from medrobust.text import read_text

DEEPEST = 32
"""Levels of lists and objects inside each other; no description of data comes near it."""


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: The file cannot be read, is larger than 64 MB, is no JSON, nests deeper than 32 levels,
            gives a key twice, or holds NaN or infinity.
    """
    try:
        content = json.loads(read_text(path), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise DataError(_too_deep(path)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON in UTF-8 ({error}). Correct the file.") from None
    if _is_deeper(content, DEEPEST):
        raise DataError(_too_deep(path))
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; of a key that stands there twice, JSON would silently keep the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{twice}' stands twice in one object")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _is_deeper(content: Any, levels: int) -> bool:
    level = [content]
    for _ in range(levels + 1):
        nodes = (node for node in level if isinstance(node, dict | list))
        level = [child for node in nodes for child in (node.values() if isinstance(node, dict) else node)]
    return bool(level)


def _too_deep(path: Path) -> str:
    return (
        f"{path}: lists and objects are nested deeper than {DEEPEST} levels. This is no file of a data set."
    )
