"""Pieces of work as tasks on a Ray cluster.

A task is the name of a job and the number of a piece. Each worker opens the study itself and keeps it for the
next task; images, rows and weights go straight to the run folder.
"""

import json
import logging
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from medrobust.threads import sharing_cores

os.environ.update(sharing_cores(os.environ))  # before torch is imported

import torch

from medrobust.core import Dataset, silent
from medrobust.errors import MedrobustError, RunError, reason
from medrobust.running.estimate import unknown_speeds
from medrobust.running.executors.local import SHRUNK, Executor, clear_memory_errors, run_here
from medrobust.running.jobs import HERE, Do, Job
from medrobust.running.plan import Plan, make_plan
from medrobust.running.progress import Display
from medrobust.running.runner import jobs_of
from medrobust.running.setup import choose_device, set_up
from medrobust.storage import RunFolder
from medrobust.study.config import Ray, resolved
from medrobust.study.reading import read_study

WAIT = 10.0
"""Seconds that a cluster has to answer."""

IN_FLIGHT = 2
"""Tasks waiting or running for each that the cluster can run at once."""


@dataclass(frozen=True)
class Context:
    """What a process needs to open a study.

    Attributes:
        study: The resolved study, as JSON.
        url: The run folder, as every node reaches it.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks run, by name.
        paths: Folders that modules are imported from.
        dataset: The data, where they are given in Python.
    """

    study: str
    url: str
    data_dir: str | None
    device: str
    paths: tuple[str, ...]
    dataset: Dataset | None = field(default=None, compare=False)


def on_ray(
    address: str | None, *, data_dir: Path | None, device: str, dataset: Dataset | None = None
) -> Executor:
    """An `Executor` on a Ray cluster.

    Args:
        address: Of the cluster; None starts one on this machine for as long as the work takes.
        data_dir: Folder that the `root` of the data is relative to; every node must have it.
        device: Where networks run on each node.
        dataset: The data, where they are given in Python; they are sent to the workers.

    Raises:
        RunError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise RunError("--executor ray: Ray is not installed. pip install 'medrobust[ray]'") from None
    del ray

    def execute(plan: Plan, jobs: Sequence[Job], shown: Display) -> None:
        context = Context(
            json.dumps(resolved(plan.setup.study)),
            plan.setup.folder.absolute,
            None if data_dir is None else str(data_dir.absolute()),
            device,
            tuple(sys.path),
            dataset,
        )
        with _cluster(address):
            _require_room(plan.setup.study.ray, address, shown)
            _execute(context, plan, jobs, shown)

    return execute


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one; let it go at the end."""
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        _require_answer(address)
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise RunError(f"--address: no Ray cluster answers at '{address}' ({reason(error)}).") from None
    with suppress(ValueError):  # in another thread than the main one, where Ray changes nothing
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """See that something listens at `host:port`; Ray itself would wait for minutes."""
    if "://" in (address or ""):
        raise RunError(f"--address: give the cluster's host:port, without a protocol; got '{address}'.")
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=WAIT).close()


def _require_room(asked: Ray, address: str | None, shown: Display) -> None:
    """See that some node can do a piece; Ray would silently wait for one.

    A cluster of the user's may grow, so there it is only said.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= asked.cpus and node.get("GPU", 0) >= asked.gpus for node in nodes):
        return
    largest = ", ".join(f"{max(node.get(kind, 0) for node in nodes):g} {kind}s" for kind in ("CPU", "GPU"))
    sentence = (
        f"study.ray asks for {asked.cpus:g} CPUs and {asked.gpus:g} GPUs for each piece of work, but no "
        f"node has them (at most: {largest})."
    )
    if address is None:
        raise RunError(f"{sentence} Lower ray.cpus or ray.gpus.")
    shown.say_once(f"{sentence} Work waits until a node that has them joins.")


def _execute(context: Context, plan: Plan, jobs: Sequence[Job], shown: Display) -> None:
    """Kind after kind, since each reads what those before it have written."""
    import ray

    asked = plan.setup.study.ray
    options = {"num_cpus": asked.cpus, "num_gpus": asked.gpus, "max_retries": asked.retries}
    tasks = _Tasks(ray.put(context), ray.remote(do_piece).options(**options), asked, shown)
    with _clear_errors(tasks):
        for kind, of_kind in groupby(jobs, lambda job: job.kind):
            if kind in HERE:
                run_here(plan, list(of_kind), shown)
                continue
            waiting = [job for job in of_kind if job.n_finished < job.pieces]
            if kind == "craft":  # stores and solved budgets must exist before many write and read them
                tasks.run((job, None) for job in waiting)
            tasks.run((job, piece) for job in waiting for piece in job.left())


class _Tasks:
    """Tasks in flight: at most a small multiple of what the cluster can run."""

    def __init__(self, context: Any, remote: Any, asked: Ray, shown: Display) -> None:
        self._context, self._remote, self._asked, self._shown = context, remote, asked, shown
        self._flying: dict[Any, tuple[Job, int | None]] = {}
        self._pieces: Counter[tuple[str, str]] = Counter()
        self.latest = ""

    def run(self, work: Iterator[tuple[Job, int | None]]) -> None:
        """Do some pieces, in any order; where the piece is None the job is only opened."""
        for job, piece in work:
            while len(self._flying) >= self._room():
                self._collect()
            task = self._remote.remote(self._context, job.kind, job.name, piece)
            self._flying[task] = (job, piece)
        while self._flying:
            self._collect()

    def cancel(self) -> None:
        """Stop what is in flight; what is finished is in the run folder."""
        import ray

        for task in self._flying:
            ray.cancel(task, force=True)

    def _room(self) -> int:
        import ray

        there: dict[str, float] = ray.cluster_resources()
        wanted = {"CPU": self._asked.cpus, "GPU": self._asked.gpus}
        at_once = min(there.get(kind, 0.0) / each for kind, each in wanted.items() if each > 0)
        return max(IN_FLIGHT, round(IN_FLIGHT * at_once))

    def _collect(self) -> None:
        import ray

        (task, *_), _rest = ray.wait(list(self._flying), num_returns=1)
        job, piece = self._flying.pop(task)
        self.latest = job.title
        if ray.get(task):
            self._shown.say_once(SHRUNK)
        if piece is not None:
            self._pieces[job.kind, job.name] += 1
        done, note = self._pieces[job.kind, job.name], f"{len(self._flying)} tasks in flight"
        self._shown.advance(job, done, title=job.title, note=note)


@contextmanager
def _clear_errors(tasks: _Tasks) -> Iterator[None]:
    """Turn errors of workers back into the original ones, and leave nothing in flight."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        tasks.cancel()
        cause = error.cause
        if isinstance(cause, MedrobustError):
            raise cause from None
        raise RunError(f"{tasks.latest} failed on a worker: {reason(cause)}.") from error
    except RayError as error:
        tasks.cancel()
        raise RunError(
            f"{tasks.latest}: a worker was lost repeatedly ({reason(error)}). It may lack memory: lower "
            "crafting.batch_size or raise ray.cpus. Finished work is kept."
        ) from error
    except KeyboardInterrupt:
        tasks.cancel()
        raise


def do_piece(context: Context, kind: str, name: str, piece: int | None) -> bool:
    """Do a piece, or only open its job; True where memory did not suffice for whole batches."""
    plan, jobs = _opened(context)
    with clear_memory_errors(jobs[kind, name]):
        do = _begun(context, kind, name)
        if piece is not None:
            do(piece, silent)
    return plan.setup.limit.shrunk


@lru_cache(maxsize=1)
def _opened(context: Context) -> tuple[Plan, dict[tuple[str, str], Job]]:
    """The study, opened once in a process."""
    sys.path += [path for path in context.paths if path not in sys.path]
    study = read_study(json.loads(context.study), given=None)
    torch.set_num_threads(max(1, round(study.ray.cpus)))
    plan = make_plan(
        set_up(
            study,
            RunFolder(context.url),
            data_dir=None if context.data_dir is None else Path(context.data_dir),
            device=choose_device(context.device),
            dataset=context.dataset,
        )
    )
    jobs = jobs_of(plan, unknown_speeds(study))
    return plan, {(job.kind, job.name): job for job in jobs}


@lru_cache(maxsize=1)
def _begun(context: Context, kind: str, name: str) -> Do:
    """A job, opened once for all of its pieces that this process does in a row."""
    return _opened(context)[1][kind, name].open()
