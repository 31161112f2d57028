"""What a result needs to be made again: versions, commit, machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "medrobust",
    "torch",
    "timm",
    "lightning",
    "numpy",
    "scipy",
    "zarr",
    "polars",
)
"""Packages whose version can change a number of a study."""


def environment(device: str, threads: int) -> dict[str, Any]:
    """Versions, commit and machine, as JSON-able data, with what the last bits of a convolution depend on.

    That is the device on which the networks run, e.g. "cuda:0", and the threads of one network call.
    """
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "commit": _commit(Path(__file__).parent),
        "device": device,
        "threads": threads,
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(folder: Path) -> dict[str, Any] | None:
    """The commit that the code is of, and whether files have changed since; None for an installed wheel."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {
            "hash": commit,
            "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no", ".")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
