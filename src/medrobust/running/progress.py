"""One progress display for a whole run; silent where the output is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from medrobust.core import OnProgress

Say = Callable[[str], None]
"""Tells a person a sentence."""

ESTIMATE_OVER = 300.0
"""Seconds of work that the remaining time is extrapolated from.

Jobs differ in speed from what was planned.
"""


class Display:
    """A bar over the expected seconds of all work that is left."""

    def __init__(self, progress: Progress, task: TaskID, console: Console) -> None:
        """Show work on a bar.

        Args:
            progress: The bar.
            task: What it shows.
            console: Where sentences are printed.
        """
        self._progress, self._task, self._console = progress, task, console
        self._said: set[str] = set()

    def show(self, seconds: float, *, title: str | None = None, note: str = "") -> None:
        """Say how many of the expected seconds are over, and what is being done."""
        self._progress.update(self._task, completed=seconds, description=title, note=note)

    def say_once(self, sentence: str) -> None:
        """Print a sentence above the bar, unless it was said before."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)


def sayer(console: Console) -> Say:
    """Print sentences as they are, whatever names from the data they hold."""
    return lambda sentence: console.print(sentence, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def display(console: Console, seconds: float) -> Iterator[Display]:
    """Show work that is expected to take so many seconds."""
    with _bar(console) as bar:
        yield Display(bar, bar.add_task("", total=seconds, note=""), console)


@contextmanager
def reading(console: Console, what: str = "reading the data") -> Iterator[OnProgress]:
    """A progress bar for opening and reading; it is gone when that is done."""
    with _bar(console, transient=True) as bar:
        whole = bar.add_task(what, total=1, note="")
        yield lambda done, note: bar.update(whole, completed=done, note=note)


@contextmanager
def _bar(console: Console, *, transient: bool = False) -> Iterator[Progress]:
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=transient,
        speed_estimate_period=ESTIMATE_OVER,
    ) as bar:
        yield bar
