"""Check before any work: the networks and data of a study, or an entry of one's own."""

import inspect
import os
import sys
from collections.abc import Iterable
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from rich.console import Console
from torch import nn

from medrobust.api.expecting import few_clean_scores, score_expected
from medrobust.catalogue import check_reference, load_function
from medrobust.data import DatasetEntry, check_data
from medrobust.errors import StudyError, reason
from medrobust.metrics.catalogue import SCORES, Score
from medrobust.models import Architecture
from medrobust.models.check import check_builder
from medrobust.models.spec import SUPPLIED
from medrobust.perturbations import check_perturbation, is_perturbation
from medrobust.rng import generator
from medrobust.running.check import check_networks
from medrobust.running.progress import sayer
from medrobust.running.setup import choose_device, set_up
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study


class Checked(NamedTuple):
    """What was checked, and what is wrong with it.

    Attributes:
        kind: "study", "network", "perturbation", "data set" or "score".
        problems: A sentence each; none if medrobust can use it.
    """

    kind: str
    problems: tuple[str, ...]


def check(
    what: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
) -> Checked:
    """Try what is one's own before any work depends on it; nothing is kept.

    Args:
        what: A study file, whose data are opened and whose networks are tried on a few images; or
            `package.module:function`: a network, a perturbation, a data set or a score.
        data: Folder to which the `root` of the study's data is relative. Default: the working directory.
        changes: `key.path=value` assignments on top of the study.
        device: "cpu", "cuda", "cuda:1" or "mps"; "auto" takes the best available.
        console: Where remarks on the networks of a study are shown. Default: nowhere.

    Raises:
        MedrobustError: The study cannot be run; the message is the first problem.
        StudyError: The function cannot be imported, or is none of the four.
    """
    text = os.fspath(what)
    if ":" in text and not Path(text).exists():
        return _check_own(text)
    with TemporaryDirectory(prefix="medrobust-") as temporary:
        setup = set_up(
            read_study(Path(text), changes),
            RunFolder(temporary),
            data_dir=None if data is None else Path(data),
            device=choose_device(device),
        )
        say = sayer(console or Console(quiet=True))
        check_networks(setup, say)
        for target, seen, count in few_clean_scores(setup):
            expect, score = target.spec.expect, score_expected(setup).heading
            wanted = "" if expect is None else f"; `expect` says {expect.clean:g} of all"
            say(f"models.{target.id.name}: clean {score} of {count} test cases {seen:.3f}{wanted}.")
            if expect is not None and abs(seen - expect.clean) > expect.tolerance + 1 / sqrt(count):
                say(
                    f"Warning: models.{target.id.name} is further from its `expect` than {count} cases "
                    "explain. Look at `input` and at the order of its classes."
                )
    return Checked("study", ())


def _check_own(load: str) -> Checked:
    if os.getcwd() not in sys.path:  # noqa: PTH109
        sys.path.append(os.getcwd())  # noqa: PTH109
    check_reference(load, "check")
    try:
        thing = load_function(load)
    except Exception as error:  # of the user's module
        raise StudyError(f"`{load}` cannot be imported: {reason(error)}.") from error
    signature = inspect.signature(thing) if callable(thing) else inspect.Signature()
    returns = str(getattr(signature.return_annotation, "__name__", signature.return_annotation))
    if isinstance(thing, DatasetEntry) or returns.endswith("Dataset"):
        subject = thing if isinstance(thing, DatasetEntry) else {"load": load}
        return Checked("data set", tuple(f"{each.says} {each.advice}" for each in check_data(subject)[1]))
    is_class = isinstance(thing, type) and issubclass(thing, nn.Module)
    if isinstance(thing, Architecture) or is_class or returns.endswith("Module"):
        return Checked("network", check_builder(load))
    if is_perturbation(thing):
        return Checked("perturbation", tuple(each.says for each in check_perturbation(load)))
    needed = {name for name, each in signature.parameters.items() if each.default is each.empty}
    if callable(thing) and needed <= {*SUPPLIED}:
        return Checked("network", check_builder(load))
    try:
        return Checked("score", _problems(SCORES.loaded(load, "check")))
    except StudyError as error:
        raise StudyError(
            f"`{load}` is none of what medrobust can use: a perturbation takes (model, images, labels, ...), "
            "a network's function takes classes and channels and returns a torch.nn.Module, a data set's is "
            f"annotated `-> Dataset`, and a score takes stored columns ({error})."
        ) from None


def _problems(score: Score) -> tuple[str, ...]:
    """What is wrong with a score, tried on made-up rows."""
    count, rng = 12, generator(0, "check a score")
    rows: dict[str, np.ndarray] = {name: rng.integers(1, 9, count) for name in score.columns}
    if {"n_true", "n_both"} <= rows.keys():
        rows["n_both"] = np.minimum(rows["n_true"], rows.get("n_pred", rows["n_true"])) // 2
    if "probabilities" in rows:
        rows["probabilities"] = rng.dirichlet(np.ones(3), count)
    rows |= {name: rng.integers(0, 3, count) for name in ("labels", "predictions") if name in rows}
    try:
        values = np.asarray(score.of(**rows), dtype=np.float64)
    except Exception as error:  # of the user's function
        return (f"It fails on {count} made-up rows: {reason(error)}.",)
    if values.shape not in ((), (count,)):
        return (f"It must return a value for each of {count} rows, or one number; got shape {values.shape}.",)
    low, high = score.bounds
    known = values[~np.isnan(values)]
    if ((known < low) | (known > high)).any():
        return (
            f"Its values must lie in [{low:g}, {high:g}], got {known.min():g} to {known.max():g}. Give other "
            "bounds (medrobust.metrics.Score).",
        )
    return ()
