"""Files that the system refuses to write: one message, exit code 1, and nothing finished is lost."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from made_studies import TINY

MEDROBUST = (sys.executable, "-c", "from medrobust.cli import app; app()")
LIMIT = 4 * 2**20
"""Bytes of the largest file: less than the weights of a network, more than all else."""


def limited() -> None:
    """Let this process write no larger file."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="limits of files are those of POSIX")
def test_a_limit_of_the_size_of_files_ends_a_run_and_it_goes_on_without(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    command = [*MEDROBUST, "run", str(study), "--out", str(tmp_path / "run"), "--device", "cpu"]
    stopped = subprocess.run(command, capture_output=True, text=True, timeout=240, preexec_fn=limited)
    assert stopped.returncode == 1, stopped.stderr
    assert "Error: The disk is full, or a quota is used up" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not list((tmp_path / "run").glob("models/*/card.json"))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "cache").rglob("*.npy")}
    assert kept
    again = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root can work as another user")
def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    code = (
        "import sys; from medrobust.storage import RunFolder; from medrobust.storage.lock import locked\n"
        "from medrobust.storage.disk import clear_disk_errors; from medrobust.errors import RunError\n"
        "import os; folder = RunFolder(sys.argv[1]); os.setuid(65534)\n"
        "try:\n"
        "    with clear_disk_errors(folder.url), locked(folder): print('written')\n"
        "except RunError as error: print(error)"
    )
    with tempfile.TemporaryDirectory() as mine:
        Path(mine).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", code, f"{mine}/run"], capture_output=True, text=True, timeout=120
        )
    assert "a file cannot be read or written: [Errno 13] Permission denied" in done.stdout, done.stderr
