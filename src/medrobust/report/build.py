"""From a finished run folder to its figures and its report."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import polars as pl
import yaml

from medrobust.analysis.findings import audit_fact
from medrobust.analysis.remarks import About, Remark, remarks, without
from medrobust.analysis.results import Results
from medrobust.analysis.subgroups import subgroup_sentences
from medrobust.analysis.verdict import Verdict
from medrobust.errors import RunError
from medrobust.report import reading
from medrobust.report.cards import card_files
from medrobust.report.context import Picture, ReportContext
from medrobust.report.explorer import read_explorer
from medrobust.report.figures.examples import Examples
from medrobust.report.html import render
from medrobust.report.pictures import Plane, draw
from medrobust.report.threats import threat_table
from medrobust.storage.folder import RunFolder

Content = TypeVar("Content")

LARGEST, SCRIPT_ROOM = 15_000_000, 100_000
"""In bytes: the size that no report exceeds, and what the explorer takes beside its pictures."""


def build(folder: RunFolder, results: Results, tables: Mapping[str, pl.DataFrame], verdict: Verdict) -> None:
    """Write `figures/`, `cards/` and `report.html`; the same run folder gives the same bytes.

    Args:
        folder: The run folder, with `study.yaml`, `split.csv` and the results.
        results: Its rows. `results.record` is `record.json`.
        tables: All tables of the study by name, from `analysis.export.all_tables`.
        verdict: What may be concluded.

    Raises:
        RunError: A file is missing in the run folder, or damaged.
    """
    missing: list[Remark] = []
    embedded = _attempted(lambda: reading.embed(folder, results), "t-SNE", "embedding", missing)
    shown = dict(tables) if embedded is None else {**tables, "embedding": embedded[1]}
    examples = _attempted(lambda: reading.read_examples(folder, results), "examples", "examples", missing)
    plane = None if embedded is None else embedded[0]
    pictures = _write_figures(folder, results, shown, plane, examples)
    context = _context(folder, results, shown, verdict, pictures)
    for name, content in card_files(context).items():
        folder.write_bytes(content, "cards", name)
    room = LARGEST - len(render(context).encode()) - SCRIPT_ROOM
    context = replace(
        context,
        explorer=_attempted(
            lambda: read_explorer(folder, results, room), "images one by one", "explorer", missing
        ),
    )
    context = replace(context, remarks=(*context.remarks, *missing))
    folder.write_bytes(render(context).encode(), "report.html")


def _attempted(
    read: Callable[[], Content], picture: str, about: About, missing: list[Remark]
) -> Content | None:
    """What a picture is made of; None where that cannot be had, and then a remark more on what is missing.

    Raises:
        RunError: The run folder is damaged.
        OSError: It cannot be read.
    """
    try:
        return read()
    except (RunError, OSError):
        raise
    except Exception as error:  # of somebody's features or classes, which no library may have seen before
        missing.append(without(picture, error, about))
        return None


def _write_figures(
    folder: RunFolder,
    results: Results,
    tables: Mapping[str, pl.DataFrame],
    plane: Plane | None,
    examples: Examples | None,
) -> dict[str, Picture]:
    drawn = draw(
        tables,
        score="Dice" if results.overlaps is not None else "accuracy",
        percent=f"{100 * results.settings.confidence:g}\u00a0%",
        units=f"{results.unit}s",
        examples=examples,
        plane=plane,
    )
    files = {name: figure.files() for name, figure in drawn.items()}
    for name, kinds in files.items():
        for kind, content in kinds.items():
            folder.write_bytes(content, "figures", f"{name}.{kind}")
    return {name: figure.picture(files[name]) for name, figure in drawn.items()}


def _context(
    folder: RunFolder,
    results: Results,
    tables: Mapping[str, pl.DataFrame],
    verdict: Verdict,
    pictures: Mapping[str, Picture],
) -> ReportContext:
    study = yaml.safe_load(folder.read_bytes("study.yaml"))
    return ReportContext(
        title=_title(results),
        task=results.task,
        unit=results.unit,
        phantom=bool(results.record["data"]["phantom"]),
        confidence=results.settings.confidence,
        outcome=verdict.outcome,
        verdict=verdict.sentences,
        remarks=(*remarks(tables, results.task), *results.left_out),
        data=_facts(results),
        split=reading.read_split(folder),
        networks=reading.read_networks(folder, results.record["networks"]),
        attacks=reading.attack_table(study),
        threats=threat_table(study),
        tables=tables,
        pictures=pictures,
        study=study,
        record=reading.without_patients(results.record),
        subgroups=subgroup_sentences(tables["subgroups"], results.unit),
        beyond_paper=tuple(
            attack.label for attack in results.attacks if attack.beyond_paper or attack.curve is not None
        ),
    )


def _title(results: Results) -> str:
    many = len(results.models) > 1
    name = results.record["data"]["name"]
    return f"Robustness of {len(results.models)} {results.task} network{'s' if many else ''} on {name}"


def _facts(results: Results) -> dict[str, str]:
    data: Mapping[str, Any] = results.record["data"]
    classes = f"{len(results.classes)}: {', '.join(results.classes)}"
    return {
        "data set": str(data["name"]),
        "classes": classes,
        **{key: str(value) for key, value in data["facts"].items()},
        f"test {results.unit}s": str(len(results.panel.patients)),
        "fingerprint (SHA-256)": str(data["fingerprint"]),
        "audit": audit_fact(results),
    }
