"""A disk that is really full: one message, nothing finished is lost, and the study goes on with space."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import medrobust as mr
from made_studies import TINY

NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c")
SCRIPT = """
mount -t tmpfs -o size=90m none "$2" || exit 9
run() { "$0" -c 'from medrobust.cli import app; app()' run "$1" --out "$2/run" --device cpu; }
run "$1" "$2" 2> "$3/said"; echo "exit $?"
cp -rp "$2/run" "$3/before"
mount -o remount,size=400m "$2"
run "$1" "$2" > "$3/again" 2>&1; echo "exit $?"
cp -rp "$2/run" "$3/after"
"""


@pytest.mark.slow
def test_a_full_disk_ends_a_run_and_space_lets_it_go_on(tmp_path: Path) -> None:
    try:
        allowed = subprocess.run([*NAMESPACE, "mount -t tmpfs none /mnt"], capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no unshare: no file system of a given size can be made here")
    if allowed.returncode:
        pytest.skip("no file system may be mounted here, not even in a namespace of one's own")
    study, disk = tmp_path / "study.yaml", tmp_path / "disk"
    study.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    disk.mkdir()
    done = subprocess.run(
        [*NAMESPACE, SCRIPT, sys.executable, study, disk, tmp_path],
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert "exit 1" in done.stdout, done.stdout + done.stderr + said
    assert said.startswith("Error: The disk is full"), said
    assert said.count("\n") == 1, said
    assert done.stdout.rstrip().endswith("exit 0"), (tmp_path / "again").read_text(encoding="utf-8")
    before, after = tmp_path / "before", tmp_path / "after"
    (card,) = (
        path.relative_to(before) for path in before.glob("models/*/card.json")
    )  # one of two was trained
    assert (after / card).stat().st_mtime_ns == (before / card).stat().st_mtime_ns
    mr.run(study, tmp_path / "undisturbed")
    for path in (tmp_path / "undisturbed").glob("results/*.parquet"):
        if path.stem != "timing":
            assert (after / "results" / path.name).read_bytes() == path.read_bytes()
