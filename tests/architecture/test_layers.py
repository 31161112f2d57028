"""What must not be imported, what may be; which module may import which is checked by `make lint`."""

import os
import subprocess
import sys

import pytest

import medrobust


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_does_not_wait_for_heavy_packages(arguments: list[str]) -> None:
    code = f"""
import sys
from medrobust.cli import app
try:
    app({arguments!r})
except SystemExit as done:
    assert not done.code, done.code
heavy = {{"torch", "polars", "matplotlib", "monai", "timm", "zarr", "nibabel"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_public_names() -> None:
    assert set(medrobust.__all__) == {
        *("run", "evaluate", "attack", "certify", "compare"),
        *("Run", "Comparison", "Attacked", "Network", "__version__"),
    }
    assert all(hasattr(medrobust, name) for name in medrobust.__all__)
    with pytest.raises(AttributeError, match="module 'medrobust' has no attribute 'runn'"):
        medrobust.runn  # noqa: B018


def test_names_that_the_design_promises() -> None:
    from medrobust.metrics import similarity
    from medrobust.perturbations import targets

    for name in ("fgsm", "deepfool", "saliency_map", "dag", "gaussian", "rician", "PERTURBATIONS"):
        assert hasattr(medrobust.perturbations, name)
    assert all(hasattr(targets, name) for name in ("all_background", "scattered", "dilated"))
    assert callable(similarity.ssim)


@pytest.mark.parametrize("module", ["cli", "running.executors.ray_cluster"])
@pytest.mark.parametrize(
    ("given", "there"), [({}, "PASSIVE 1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None")]
)
def test_threads_that_wait_let_others_work(module: str, given: dict[str, str], there: str) -> None:
    """Read when torch is imported, so it is set before; what the environment says counts more."""
    code = f"""
import os, sys
class Torch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Torch())
import medrobust.{module}, torch
"""
    said = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    clean = {name: value for name, value in os.environ.items() if name not in said}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == there, done.stderr
