"""Tables and consoles of the command line: nothing that a person must read whole is ever cut."""

from typing import Any

from rich.console import Console
from rich.table import Column, Table

WIDE = 10_000
"""Characters of a line where the output is no terminal: in a file, names and sentences stay in one piece."""


def text_table(*headers: str, **options: Any) -> Table:
    """An empty table whose cells are folded where a terminal is too narrow, and not cut.

    Args:
        headers: Of its columns.
        options: Of `rich.table.Table`.
    """
    return Table(*(Column(header, overflow="fold") for header in headers), **options)


def output() -> Console:
    """The standard output; where it is no terminal, lines are as long as what stands in them."""
    console = Console()
    return console if console.is_jupyter or console.file.isatty() else Console(width=WIDE)
