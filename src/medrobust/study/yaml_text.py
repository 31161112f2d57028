"""YAML from untrusted files, read within limits: plain data only, no duplicate keys, no alias bombs.

An alias repeats what stands elsewhere. Ten lines of aliases of aliases are billions of values for whoever
walks them, and merge keys (`<<`) copy while they are read. So the repeated values are counted before any is
made.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from medrobust.errors import StudyError

MOST_VALUES = 100_000
"""Keys and values of a study with every alias written out; one with 50 networks has about 1,000."""

DEEPEST = 50
"""Levels of lists and mappings inside each other."""


def load_yaml(text: str) -> Any:
    """The plain data of a YAML document.

    Raises:
        StudyError: It is not YAML, names a Python type, gives a key twice, nests deeper than 50 levels, or
            has more than 100,000 values once its aliases are written out. The message is the end of a
            sentence about the text.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _measure(root, {}, 0)
        return loader.construct_document(root)
    except RecursionError:
        raise StudyError(_TOO_DEEP) from None
    except yaml.YAMLError as error:
        raise StudyError(f"is not valid YAML: {error}") from None
    # PyYAML passes on what Python says about a number or date that is none.
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise StudyError(f"is not valid YAML: a number, date or tag is malformed ({error}).") from None


_TOO_DEEP = f"nests lists and keys deeper than {DEEPEST} levels. Write it flatter, without aliases in a loop."


def _measure(node: yaml.Node, sizes: dict[int, int], level: int) -> int:
    """Number of values below a node, aliases written out; each node is measured once."""
    if level > DEEPEST:
        raise StudyError(_TOO_DEEP)
    if id(node) not in sizes:
        if isinstance(node, yaml.MappingNode):
            _refuse_twins(node)
        # A loop of aliases never gets to this line, but too deep.
        sizes[id(node)] = 1 + sum(_measure(child, sizes, level + 1) for child in _children(node))
    if sizes[id(node)] > MOST_VALUES:
        raise StudyError(
            f"has more than {MOST_VALUES:,} values when its aliases (*name) are written out. "
            "Write out what you need."
        )
    return sizes[id(node)]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _refuse_twins(node: yaml.MappingNode) -> None:
    """Of a key that stands there twice, YAML would silently keep the last."""
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise StudyError(f"gives the key '{key.value}' twice, again in line {line}. Keep one.")
            seen.add((key.tag, key.value))
