"""Killed at any moment, a study goes on: nothing finished is done twice, and nothing is lost or changed.

Children are forked from one process that has imported everything, so that a kill costs no import.
"""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from made_studies import TINY, run_whole

STUDY = TINY | {
    "data": TINY["data"] | {"images": 160},
    "split": {"rule": "patient", "test": 0.5},
    "training": {"epochs": 4},
    "perturbations": [{"name": "fgsm", "eps": {"ssim": 0.95}}, {"name": "deepfool", "steps": 8}],
    "crafting": {},
    "cases": {"total": 70},
    "report": {"hardest": 1, "typical": 1},
    "analysis": {"resamples": 200},
}
KILLS = 25


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that a run promises to be the same."""
    parts = ("tables", "results", "models", "crafted", "figures")
    found = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    found += [folder / name for name in ("results.json", "report.html", "study.yaml", "split.csv")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if "timing" not in str(path)}


def finished(folder: Path) -> dict[Path, int]:
    """When each finished piece was put in place: chunks, rows of pieces, networks."""
    patterns = (
        "crafted/*/done/*.json",
        "crafted/*/rows/*.gz",
        "results/parts/*/*/*--*/*.gz",
        "models/*/card.json",
    )
    return {path: path.stat().st_mtime_ns for pattern in patterns for path in folder.glob(pattern)}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_killed_at_25_random_moments(tmp_path: Path) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "medrobust.api", "medrobust.running.runner", "lightning.fabric"])

    def start(folder: Path) -> Any:
        process = context.Process(target=run_whole, args=(STUDY, folder))
        process.start()
        return process

    began = time.monotonic()
    whole = start(tmp_path / "whole")
    whole.join()
    assert whole.exitcode == 0
    duration = time.monotonic() - began

    rng, folder = np.random.default_rng(0), tmp_path / "killed"
    done: dict[Path, int] = {}
    kept = 0
    for _ in range(KILLS):
        process = start(folder)
        process.join(rng.uniform(0.05, 0.7) * duration)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        now = finished(folder)
        assert done.items() <= now.items()  # nothing finished is done twice
        kept, done = kept + (len(done) > 0), now
    last = start(folder)
    last.join()
    assert last.exitcode == 0
    assert done.items() <= finished(folder).items()
    assert kept > KILLS // 2
    assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "executor"),
    [(signal.SIGTERM, "local"), (signal.SIGINT, "local"), (signal.SIGINT, "ray")],
)
def test_a_signal_stops_within_ten_seconds_and_says_what_is_kept(
    tmp_path: Path, number: signal.Signals, executor: str
) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY | {"training": {"epochs": 400}}))
    if executor == "ray":
        pytest.importorskip("ray")
    code = "import sys; from medrobust.cli import app; app(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", "study.yaml", "--out", "run", "--executor", executor],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_worker_niceness": "0"},
    )
    state = tmp_path / "run" / "models" / "net-target-s0" / "last.ckpt.gz"
    while not state.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    began = time.monotonic()
    said, error = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 3, error
    assert "0 of" in said
    assert "pieces of work are finished and kept in 'run'" in said
    assert error.strip().endswith("the same command resumes from there.")
