"""One process at a time works on a run folder, and a lock that nobody holds any more is no lock."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from medrobust.errors import RunError
from medrobust.storage import RunFolder, lock
from medrobust.storage.lock import OWNER, STALE, locked


@pytest.fixture(params=["disk", "url"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run" if request.param == "disk" else f"memory://{uuid4().hex}")


def test_the_second_is_told_who_the_first_is(folder: RunFolder) -> None:
    expected = f"is working on the run folder '{folder.url}': process {os.getpid()} on {socket.gethostname()}"
    with locked(folder), pytest.raises(RunError, match=expected), locked(RunFolder(folder.url)):
        pytest.fail("two at a time")
    with locked(folder):  # the first has let it go
        assert folder.exists(OWNER)
    assert not folder.exists(OWNER)


def test_an_error_lets_it_go(folder: RunFolder) -> None:
    with pytest.raises(ZeroDivisionError), locked(folder):
        raise ZeroDivisionError
    with locked(folder):
        pass


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os; from medrobust.storage import RunFolder; from medrobust.storage.lock import locked\n"
        f"with locked(RunFolder({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    assert (tmp_path / OWNER).exists()
    with locked(RunFolder(tmp_path)):
        assert RunFolder(tmp_path).read_json(OWNER)["process"] == os.getpid()


def test_behind_a_url_a_claim_that_is_not_renewed_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(f"memory://{uuid4().hex}")
    with locked(folder):
        holder = folder.read_json(OWNER)
    monkeypatch.setattr(lock.time, "time", lambda: holder["renewed"] + STALE - 1)
    folder.write_json(holder, OWNER)
    with pytest.raises(RunError, match="Another medrobust process is working"), locked(folder):
        pytest.fail("it may be alive")
    monkeypatch.setattr(lock.time, "time", lambda: holder["renewed"] + STALE + 1)
    with locked(folder):
        assert folder.read_json(OWNER)["renewed"] == holder["renewed"] + STALE + 1
