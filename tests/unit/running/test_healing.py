"""A bit that flips in a run folder is noticed and said, and only what it spoils is made again."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import medrobust as mr
from made_studies import TINY
from medrobust.errors import RunError
from medrobust.running.runner import run_study
from medrobust.running.training_folder import BEST, STATE
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study


def go_on(folder: Path) -> str:
    """Run without a report, and return what was said."""
    console = Console(record=True, width=400, file=io.StringIO())
    run_study(read_study(TINY), RunFolder(folder), data_dir=None, device=torch.device("cpu"), console=console)
    return " ".join(console.export_text().split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    go_on(folder)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts)
    names = {str(path.relative_to(folder)): path.read_bytes() for path in found}
    return {name: content for name, content in names.items() if "timing" not in name}


def one(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


PARTS: dict[str, tuple[str, str, str]] = {  # what is damaged, what is said, what else is made again
    "images": ("crafted/fgsm*/images/c/0/0/0/0", "chunk 0 is damaged", "crafted/fgsm"),
    "rows of images": ("crafted/fgsm*/rows/00001.parquet.gz", "00001.parquet.gz is damaged", "crafted/fgsm"),
    "rows of noise": ("crafted/gauss*/rows/00000.parquet.gz", "00000.parquet.gz is damaged", "crafted/gauss"),
    "predictions": (
        "results/parts/predictions/*/fgsm*/00000.parquet.gz",
        "00000.parquet.gz is damaged",
        "results/parts/predictions",
    ),
    "weights": ("models/*target*/weights.safetensors", "does not match its card", "models/net-target"),
    "a marker": ("crafted/fgsm*/done/00000.json", "chunk 0 is damaged", "crafted/fgsm"),
    "metadata": ("crafted/fgsm*/images/zarr.json", "description of its images is damaged", "crafted/fgsm"),
}


@pytest.mark.parametrize("what", PARTS)
def test_a_flipped_bit(finished: Path, copy: Path, what: str) -> None:
    pattern, said, again = PARTS[what]
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    damaged = one(copy, pattern)
    flip(damaged, 0.01 if what in ("a marker", "metadata") else 0.5)
    assert said in go_on(copy)
    assert contents(copy) == contents(finished)
    work = ("crafted", "models", "results/parts")
    for path, time in before.items():
        name = str(path.relative_to(copy))
        if name.startswith(work) and not name.startswith(again) and "timing" not in name:
            assert path.stat().st_mtime_ns == time, name


def test_a_table_is_noticed_when_it_is_read_and_joined_anew(finished: Path, copy: Path) -> None:
    flip(copy / "results" / "predictions.parquet")
    with pytest.raises(RunError, match=r"predictions\.parquet is damaged.*the table is joined again"):
        _ = mr.Run.open(copy).results
    go_on(copy)
    assert contents(copy) == contents(finished)


@pytest.mark.parametrize("state", [STATE, BEST])
def test_a_damaged_state_of_a_training(finished: Path, copy: Path, state: str) -> None:
    (network,) = copy.glob("models/*target*")
    RunFolder(network).write_sealed(bytes(1000), state)
    flip(network / state)
    assert f"{state} is damaged" in go_on(copy)
    assert contents(copy) == contents(finished)


def test_what_a_killed_write_left_is_swept_up(finished: Path, copy: Path) -> None:
    left = ["tables/.a.csv", "models/.b", "cache/.c", ".report.html.0123456789abcdef0123456789abcdef"]
    left += ["results/parts/.00000.parquet.gz.0123", "crafted/.d"]
    for name in left:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"half")
    (copy / ".mine").write_bytes(b"of a user")
    go_on(copy)
    assert not [name for name in left if (copy / name).exists()]
    (copy / ".mine").unlink()  # is still there
    assert contents(copy) == contents(finished)


@pytest.mark.parametrize("error", [pytest.param(MemoryError, marks=pytest.mark.slow), torch.OutOfMemoryError])
def test_memory_that_runs_out_halves_the_batch_and_is_said_once(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    from medrobust.running import craft

    original: Callable[..., Any] = craft.attack_part

    def needs_room(setup: Any, source: Any, request: Any, batch: Any, place: slice) -> Any:
        if place.stop - place.start > 5:
            raise error
        return original(setup, source, request, batch, place)

    monkeypatch.setattr(craft, "attack_part", needs_room)
    said = go_on(tmp_path / "run")
    assert said.count("There is not enough memory") == 1
    markers = "crafted/*/done/*.json"
    assert len(list((tmp_path / "run").glob(markers))) == len(list(finished.glob(markers)))
