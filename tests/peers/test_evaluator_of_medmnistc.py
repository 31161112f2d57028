"""Balanced errors against MedMNIST-C's own evaluator, on given predictions."""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from medrobust.metrics import balanced_accuracy
from medrobust.metrics.corruptions import ALEXNET, balanced_errors

OURS = {
    "jpeg_compression": "jpeg",
    "bubble": "bubbles",
    "gamma_corr_up": "gamma_up",
    "gamma_corr_down": "gamma_down",
}


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of its evaluator, without the package's corruptions, which need ImageMagick."""
    spec = find_spec("medmnistc")
    if spec is None or spec.origin is None:
        pytest.skip("needs medmnistc; `make bench-test` installs it")
    for name, folder in (("medmnistc", ""), ("medmnistc.utils", "utils")):
        package = ModuleType(name)
        package.__path__ = [str(Path(spec.origin).parent / folder)]
        monkeypatch.setitem(sys.modules, name, package)
    return importlib.import_module("medmnistc.eval")


@pytest.mark.parametrize("data", ALEXNET)
def test_the_same_numbers(evaluator: Any, data: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    labels, scores = rng.integers(0, 3, (60, 1)), rng.random((60, 3))
    theirs = list(evaluator.BASELINES[data]["raw_scores"])
    judge = evaluator.Evaluator(data, labels, theirs, str(tmp_path), "net", "multi-class")
    judge.evaluate_clean(scores)

    def error(answers: Any) -> float:
        return 1 - balanced_accuracy(labels[:, 0], answers.argmax(1))

    errors = {}
    for name in theirs:
        answers = rng.random((300, 3))
        judge.evaluate(answers, name)
        errors[OURS.get(name, name)] = [error(answers[60 * step : 60 * step + 60]) for step in range(5)]
    judge.output_log = {}
    judge.populate_summary()
    found = balanced_errors(errors, error(scores), ALEXNET[data], ALEXNET[data]["clean"])
    assert found.be == pytest.approx(judge.output_log["metrics"]["be"], rel=1e-5)
    # A baseline that corruption hardly harms divides by nearly nothing.
    assert found.relative == pytest.approx(judge.output_log["metrics"]["rbe"], rel=1e-3)
