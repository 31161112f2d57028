"""A run folder on an object store holds what one on a disk does, byte for byte."""

import os
import re
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import medrobust as mr
from made_studies import TINY
from medrobust.cli import app
from medrobust.storage import RunFolder
from medrobust.storage.lock import locked
from medrobust.view.server import open_viewer
from object_store import BUCKET, Requests, object_store

URL = f"s3://{BUCKET}/studies/run"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store() -> Iterator[Requests]:
    with object_store() as requests:
        yield requests


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    file.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def on_disk(study: Path) -> Path:
    folder = study.parent / "run"
    mr.run(study, folder)
    return folder


@pytest.fixture(scope="module")
def behind_url(store: Requests, study: Path) -> str:
    """Interrupted by an error in the third piece, and gone on with."""
    from medrobust.running.executors import local

    progress, pieces = local._within, count(1)

    def third_fails(*arguments: Any) -> Any:
        if next(pieces) == 3:
            raise ZeroDivisionError
        return progress(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_within", third_fails)
        with pytest.raises(ZeroDivisionError):
            mr.run(study, URL)
    assert f"Report: {URL}/report.html" in command("run", study, "--out", URL, "--device", "cpu")
    return URL


def command(*arguments: str | Path) -> str:
    """The output of a command that succeeds."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert ended.exit_code == 0, ended.output
    return ended.output


def contents(folder: RunFolder) -> dict[str, bytes]:
    found = {"/".join(parts): folder.read_bytes(*parts) for parts in folder.files() if parts[0] != "cache"}
    return {name: content for name, content in found.items() if "timing" not in name and name != ".lock"}


def test_the_same_bytes_as_on_a_disk_after_an_interruption(on_disk: Path, behind_url: str) -> None:
    here, there = contents(RunFolder(on_disk)), contents(RunFolder(behind_url))
    assert there.keys() == here.keys()
    assert [name for name in here if here[name] != there[name]] == []


def test_nothing_is_written_twice(store: Requests, behind_url: str) -> None:
    work = ("crafted/", "models/", "results/parts/")
    puts = Counter(path.partition("/studies/run/")[2] for method, path in store.made if method == "PUT")
    once = {path: n for path, n in puts.items() if path.startswith(work) and "ckpt" not in path}
    assert once
    assert set(once.values()) == {1}


def test_runs_behind_urls_are_compared(study: Path, behind_url: str) -> None:
    later, page = f"s3://{BUCKET}/later", f"s3://{BUCKET}/comparison"
    mr.run(study, later, changes=["training.epochs=2"])
    said = command("compare", behind_url, f"longer={later}", "--out", page)
    assert f"Report: {page}/comparison.html" in said
    assert RunFolder(page).exists("comparison.html")


def test_every_command_takes_a_url(study: Path, behind_url: str, tmp_path: Path) -> None:
    assert "evaluate" in command("plan", study, "--out", behind_url)
    assert "Nothing is left over" in command("clean", behind_url)
    assert f"Report: {behind_url}/report.html" in command("report", behind_url)
    case = mr.Run.open(behind_url).results.predictions["case_id"][0]
    command("export", behind_url, "--perturbation", "fgsm", "--case", case, "--to", tmp_path)
    assert list(tmp_path.rglob("*.png"))
    run = mr.Run.open(behind_url)
    with open_viewer(run.study, run.folder, run.results) as server:
        assert server.address.startswith("http://127.0.0.1")
    assert "budget" in command("selftest", study, "--out", behind_url)


def requests(store: Requests, after: str, until: str) -> Counter[str]:
    """How many of each kind were made between the last puts of two objects, the second one included."""
    puts = [place for place, (method, _) in enumerate(store.made) if method == "PUT"]
    first, last = (
        max(place for place in puts if re.search(part, store.made[place][1])) for part in (after, until)
    )
    made = store.made[first + 1 : last + 1]
    return Counter("LIST" if "list-type" in path else method for method, path in made)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("crafted/fgsm[^/]*/timing", {"PUT": 4}),
        ("crafted/gaussian[^/]*/timing", {"PUT": 2, "GET": 1, "HEAD": 1, "LIST": 1}),
        ("predictions/[^/]*/timing/clean[^/]*", {"PUT": 2, "HEAD": 1, "LIST": 1}),
        ("predictions/[^/]*/timing/fgsm[^/]*8bit", {"PUT": 4, "GET": 4, "HEAD": 7, "LIST": 2}),
        ("predictions/[^/]*/timing/gaussian[^/]*8bit", {"PUT": 4, "GET": 1, "HEAD": 3, "LIST": 2}),
        ("embeddings/[^/]*/fgsm[^/]*", {"PUT": 1, "GET": 4, "HEAD": 5}),
    ],
)
@pytest.mark.usefixtures("behind_url")
def test_requests_of_a_chunk(store: Requests, part: str, expected: dict[str, int]) -> None:
    """Those of docs/scale.md."""
    assert requests(store, f"/studies/run/.*{part}/00000", f"/studies/run/.*{part}/00001") == expected


def test_one_process_at_a_time_works_behind_a_url(store: Requests, study: Path) -> None:
    """By a conditional write; the second is another process, as far as the store can tell."""
    shared = f"s3://{BUCKET}/shared"
    with locked(RunFolder(shared)):
        result = CliRunner().invoke(app, ["run", str(study), "--out", shared, "--device", "cpu"])
    assert result.exit_code == 1
    assert f"is working on the run folder '{shared}': process {os.getpid()} on {socket.gethostname()}" in (
        result.stderr
    )
    assert list(RunFolder(shared).names()) == []
