"""Arguments and options that commands share, and the choices that they offer."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer


class DemoTask(StrEnum):
    """What `medrobust demo` runs."""

    CLASSIFICATION = "classification"
    SEGMENTATION = "segmentation"
    BOTH = "both"


class Listing(StrEnum):
    """What `medrobust list` shows."""

    MODELS = "models"
    PERTURBATIONS = "perturbations"
    DATASETS = "datasets"


class Executor(StrEnum):
    """Who does the work of `medrobust run`."""

    LOCAL = "local"
    RAY = "ray"


class Bits(StrEnum):
    """What `medrobust export` rounds images to."""

    AUTO = "auto"
    EIGHT = "8"
    SIXTEEN = "16"
    FLOAT = "float"


BITS: dict[Bits, Literal["auto", 8, 16] | None] = {
    Bits.AUTO: "auto",
    Bits.EIGHT: 8,
    Bits.SIXTEEN: 16,
    Bits.FLOAT: None,
}

StudyFile = Annotated[
    Path, typer.Argument(help="The study, a YAML file. `medrobust init` writes one.", show_default=False)
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder that the `root` of the study's data is relative to.")
]
RunDir = Annotated[
    str,
    typer.Argument(
        metavar="RUN_DIR", help="A finished run folder, or its URL (s3://bucket/run).", show_default=False
    ),
]
RunOut = Annotated[
    str | None,
    typer.Option(
        metavar="RUN_DIR",
        help="The run folder, or a URL (s3://bucket/run); runs/<name of the study> by default.",
    ),
]
RunDirs = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]RUN_DIR",
        help="Finished run folders or URLs, the earliest first; called by the folder's name, or as you say.",
        show_default=False,
    ),
]
ComparisonDir = Annotated[
    str, typer.Option(metavar="DIR", help="Folder, or URL, for the report, its tables and figures.")
]
Compared = Annotated[
    list[str] | None,
    typer.Option(
        help="Label of an attack or noise to compare; may be repeated; all that the runs share by default."
    ),
]
Labels = Annotated[
    list[str] | None, typer.Option(help="A label of the study, e.g. fgsm, gaussian@fgsm, clean.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write everything found as JSON.")
]
HtmlFile = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with thumbnails that opens offline."),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(help="Network that it was crafted on: unet, or unet-target-s0; all surrogates by default."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Change a key of the study, e.g. models.unet.width=16."
    ),
]
Who = Annotated[Executor, typer.Option("--executor", help="This process, or the workers of a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option(help="Of the Ray cluster; without it one is started on this machine.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps; auto takes the best there is.")]
