"""One progress display for a whole run; the bar is silent where the output is no terminal."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from medrobust.core import OnProgress
from medrobust.running.jobs import Job, Kind

Say = Callable[[str], None]
"""Tells a person a sentence."""

MEMORY = 120.0
"""Seconds of work after which a measured pace counts for 1/e, since other programs come and go."""

TRUSTED = 2.0
"""Seconds of work after which a measured pace counts as much as what was assumed before."""


class Pace(NamedTuple):
    """Seconds that work was planned to take, and seconds that it took."""

    planned: float = 0.0
    spent: float = 0.0

    def after(self, planned: float, spent: float) -> "Pace":
        """The pace once more work is done; older work counts less."""
        kept = math.exp(-spent / MEMORY)
        return Pace(kept * self.planned + planned, kept * self.spent + spent)

    def factor(self, assumed: float) -> float:
        """Seconds per planned second: what was assumed at first, then more and more what is measured."""
        if min(self) <= 0:
            return assumed
        trust = self.spent / (self.spent + TRUSTED)
        return math.exp(trust * math.log(self.spent / self.planned) + (1 - trust) * math.log(assumed))


def seconds_left(planned: Mapping[Kind, float], paces: Mapping[Kind, Pace]) -> float:
    """How long the rest of a run takes.

    `planned` holds the planned seconds that are left of each kind of job. Each continues at its own pace. A
    kind that has not begun is assumed to go at the pace of all work so far: everything was planned from
    speeds that were measured together, perhaps at a busy moment.
    """
    measured = Pace(sum(pace.planned for pace in paces.values()), sum(pace.spent for pace in paces.values()))
    overall = measured.factor(1.0)
    return sum(left * paces.get(kind, Pace()).factor(overall) for kind, left in planned.items())


class Display:
    """A bar over all work that is left. Its end moves as the pace of the work becomes known.

    `clock` tells the time in seconds.
    """

    def __init__(self, bar: Progress, jobs: Sequence[Job], clock: Callable[[], float]) -> None:
        self._bar, self._clock = bar, clock
        self._planned: dict[Kind, float] = {}
        for job in jobs:
            self._planned[job.kind] = self._planned.get(job.kind, 0.0) + job.seconds_left
        self._paces: dict[Kind, Pace] = {}
        self._pieces: dict[tuple[Kind, str], float] = {}
        self._said: set[str] = set()
        self._start = self._latest = clock()
        self._task = bar.add_task("", total=None, note="", left="")
        self._show()

    @property
    def seconds_left(self) -> float:
        """How long the rest takes, as far as is known."""
        return seconds_left(self._planned, self._paces)

    def advance(self, job: Job, pieces: float, *, title: str | None = None, note: str = "") -> None:
        """Show what is being done.

        Args:
            job: What was worked on since this was last called.
            pieces: How many of its pieces this run has done; a fraction where one is under way.
            title: What is being done; None leaves it.
            note: About the work, such as the loss.
        """
        now, known = self._clock(), (job.kind, job.name)
        planned = (pieces - self._pieces.get(known, 0.0)) * job.seconds / job.pieces
        self._paces[job.kind] = self._paces.get(job.kind, Pace()).after(planned, now - self._latest)
        self._planned[job.kind] = max(0.0, self._planned[job.kind] - planned)
        self._pieces[known], self._latest = pieces, now
        self._show(title, note)

    def end(self) -> None:
        """Show that everything is done."""
        self._planned.clear()
        self._show("done")

    def say_once(self, sentence: str) -> None:
        """Print a sentence above the bar, unless it was said before."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._bar.console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _show(self, title: str | None = None, note: str = "") -> None:
        over, left = self._latest - self._start, self.seconds_left
        self._bar.update(
            self._task,
            completed=over,
            total=over + left,
            description=title,
            left=f"{duration(left)} left",
            note=note,
        )


def sayer(console: Console) -> Say:
    """Print sentences as they are, whatever names from the data they contain."""
    return lambda sentence: console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours / 24:.0f} days"


@contextmanager
def display(
    console: Console, jobs: Sequence[Job], clock: Callable[[], float] = time.monotonic
) -> Iterator[Display]:
    """Show the work on these jobs; `clock` tells the time in seconds."""
    with _bar(console, TextColumn("{task.fields[left]}")) as bar:
        yield Display(bar, jobs, clock)


@contextmanager
def reading(console: Console, what: str = "reading the data") -> Iterator[OnProgress]:
    """A progress bar for opening and reading, which disappears when that is done."""
    with _bar(console, transient=True) as bar:
        whole = bar.add_task(what, total=1, note="")
        yield lambda done, note: bar.update(whole, completed=done, note=note)


def _bar(console: Console, *columns: TextColumn, transient: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        *columns,
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=transient,
    )
