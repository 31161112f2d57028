"""Before a run begins: what is to be done, how long it takes, and how much disk it needs."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from medrobust.core import Part
from medrobust.data.splitting.case_sets import described
from medrobust.perturbations import PERTURBATIONS, SUITES
from medrobust.running.jobs import Job
from medrobust.running.plan import some_cases
from medrobust.running.progress import duration, sayer
from medrobust.running.setup import Fold, Setup
from medrobust.text import counted, text_table


def announce(setup: Setup, jobs: Sequence[Job], console: Console) -> None:
    """Say what a study is of and what is left of each kind of job, and warn where the disk is too small."""
    study, dataset = setup.study, setup.dataset
    counts = "; ".join(dict.fromkeys(_counts(fold) for fold in setup.folds))
    several = f"; {len(setup.folds)} folds, every {dataset.unit} is tested once" if setup.folds[1:] else ""
    seeds = f" x {len(study.targets.seeds)} seeds" if study.targets.seeds[1:] else ""
    say = sayer(console)
    say(
        f"{study.task} on {dataset.name}: {counted(len(study.specs), 'network')}{seeds}, "
        f"{counted(len(study.attacks), 'attack')}, {described(setup.cases, dataset)}; "
        f"{dataset.unit}s: {counts}{several}"
    )
    suite, dimensions = study.corruptions.suite, len(dataset.shape)
    of_suite = SUITES.get(suite or "", ())
    unfit = [name for name in of_suite if PERTURBATIONS[name].misfit(dataset.channels, dimensions)]
    if unfit:
        say(f"Of the suite {suite} these do not take such images and are left out: {', '.join(unfit)}.")
    if sentence := ladder_sentence(setup):
        say(sentence)
    table = text_table("step", "jobs", "pieces", "done", "time left", "disk")
    for kind in dict.fromkeys(job.kind for job in jobs):
        of_kind = [job for job in jobs if job.kind == kind]
        table.add_row(kind, str(len(of_kind)), *_summary(of_kind))
    table.add_section()
    table.add_row("all", str(len(jobs)), *_summary(jobs))
    console.print(table)
    needed, free = sum(job.disk_left for job in jobs), setup.folder.free()
    if free is not None and needed:
        say(f"Disk: at most {size(needed)} will be written; {size(free)} are free.")
    if free is not None and needed > free:
        say(
            "Warning: this may not be enough. Free some space, use fewer cases, or choose a folder on "
            "another disk with --out. A full disk ends the run; finished work is kept."
        )


def ladder_sentence(setup: Setup) -> str:
    """How the threat-model ladder comes to its strongest transferred attack; empty without a ladder."""
    threats, rungs = setup.study.threats, [each for each in setup.study.attacks if each.ladder is not None]
    transferred = [each for each in rungs if each.crafted_on != "targets"]
    if threats is None:
        return ""
    said = f"threats: {counted(len(rungs), 'attack')} within {255 * threats.eps:.4g}/255"
    if not setup.sources or not transferred:
        return f"{said}, none of which is transferred."
    if not threats.validation_cases:
        return f"{said}; the strongest transferred one on each network is not chosen."
    most = max(len(some_cases(fold.validation_cases, threats.validation_cases)) for fold in setup.folds)
    if not most:
        return (
            f"{said}; the strongest transferred one on each network is not chosen, since the split has no "
            "validation part."
        )
    cases = counted(most, "validation case")
    return f"{said}; the strongest transferred one on each network is chosen on {cases}."


def job_table(jobs: Sequence[Job]) -> Table:
    """Every job, how many of its pieces are done, and what the remaining ones cost."""
    table = text_table("step", "job", "pieces", "done", "time left", "disk")
    for job in jobs:
        table.add_row(job.kind, job.title, *_summary([job]))
    return table


def _counts(fold: Fold) -> str:
    parts = Counter(fold.split.values())
    return ", ".join(f"{parts[part]} {part}" for part in Part if part != Part.UNUSED)


def _summary(jobs: Sequence[Job]) -> tuple[str, str, str, str]:
    """Pieces, finished ones, and what the remaining ones cost."""
    return (
        str(sum(job.pieces for job in jobs)),
        str(sum(job.n_finished for job in jobs)),
        duration(sum(job.seconds_left for job in jobs)),
        size(sum(job.disk_left for job in jobs)),
    )


def size(count: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("MB", "GB"):
        count /= 1000 if unit == "GB" else 1e6
        if count < 1000:
            return f"{count:.0f} {unit}"
    return f"{count / 1000:.1f} TB"
