"""Types of the public interface, read by mypy and never run: `assert_type` fails where a type is lost."""

from pathlib import Path
from typing import assert_type

import numpy as np
import polars as pl
from torch import Tensor, nn

import medrobust as mr
from medrobust.perturbations import deepfool, fgsm, gaussian, perturbation, pgd


def in_memory(net: nn.Module, images: Tensor, labels: Tensor, arrays: np.ndarray) -> None:
    attacked = mr.attack(net, images, labels, "pgd", eps=2 / 255, steps=10)
    assert_type(attacked, mr.Attacked)
    assert_type(attacked.images, Tensor)
    assert_type(attacked.success, Tensor)
    mr.attack(lambda batch: batch.mean((2, 3)), arrays, arrays, {"name": "fgsm"})

    wrapped = mr.Network(net, mean=0.5, std=(0.2, 0.2, 0.2), size=224, output="logits")
    assert_type(wrapped, mr.Network)
    run = mr.evaluate(
        {"a": net, "b": wrapped, "c": lambda batch: net(batch)}, (images, labels), attacks=["fgsm"]
    )
    assert_type(run, mr.Run)
    assert_type(run.table1(), pl.DataFrame)
    mr.evaluate({"a": net}, (arrays, arrays), patients=[1, 2], surrogates="none", out=Path("runs/a"), seed=3)
    mr.attack(net, images, "no labels")  # type: ignore[arg-type]
    mr.evaluate({"a": 3}, (images, labels))  # type: ignore[dict-item]


def studies() -> None:
    run = mr.run("study.yaml", out="runs/a")
    assert_type(run, mr.Run)
    assert_type(mr.Run.open("runs/a").table2(), pl.DataFrame)
    assert_type(run.report, Path | str)
    assert_type(mr.compare(["runs/a", "runs/b"]), mr.Comparison)
    mr.run("study.yaml")  # type: ignore[call-arg]


def decorated(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    assert_type(fgsm(net, images, labels, eps=2 / 255), Tensor)
    assert_type(deepfool(net, images, labels, preset="moosavi-2016"), Tensor)
    assert_type(gaussian(None, images, labels, strength=0.1), Tensor)
    pgd(net, images, labels, eps=0.1, stepz=3)  # type: ignore[call-arg]
    deepfool(net, images, labels, preset="moosavi")  # type: ignore[arg-type]
    fgsm(net, images, labels)  # type: ignore[call-arg]

    @perturbation(norms=("2",))
    def mine(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float = 0.5) -> Tensor:
        return images

    assert_type(mine(net, images, labels, eps=1.0), Tensor)
    mine(net, images, labels, eps="1")  # type: ignore[arg-type]
