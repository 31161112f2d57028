"""From a finished run folder to its figures and its report."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import polars as pl
import yaml

from medrobust.analysis.corruptions import families
from medrobust.analysis.remarks import audit_fact, remarks
from medrobust.analysis.results import BASE, Results
from medrobust.analysis.subgroups import subgroup_sentences
from medrobust.analysis.verdict import Verdict
from medrobust.core import Task
from medrobust.errors import Remark, RunError, without
from medrobust.report import reading, style
from medrobust.report.cards import card_files
from medrobust.report.examples import Row, corruption_figure, example_rows, examples_figure
from medrobust.report.explorer import read_explorer
from medrobust.report.page import QUESTIONS, STORY_PICTURES, render
from medrobust.report.pdf import printed
from medrobust.report.plots import Drawn, Projection, Words, draw
from medrobust.report.reading import ReportContext, threat_table
from medrobust.report.style import Picture
from medrobust.running.explorer import CORRUPTED, EXAMPLES
from medrobust.storage.folder import RunFolder
from medrobust.text import counted

LARGEST, SCRIPT_ROOM = 15_000_000, 100_000
"""Bytes of the largest report, and of the explorer without its pictures."""


def build(
    folder: RunFolder,
    results: Results,
    tables: Mapping[str, pl.DataFrame],
    verdict: Verdict,
    *,
    pdf: bool = False,
) -> tuple[str, ...]:
    """Write `figures/`, `cards/` and `report.html`; the same run folder gives the same bytes.

    A picture never costs a report: if one cannot be made, the report says so and does without it.

    Args:
        folder: The run folder, with `study.yaml`, `split.csv` and the results.
        results: Its rows. `results.record` is `record.json`.
        tables: All tables of the study by name, from `analysis.export.all_tables`.
        verdict: What may be concluded.
        pdf: Print the report to `report.pdf` too, also if the study does not ask for it.

    Returns:
        A sentence for each picture that could not be made here; `results.left_out` has those of the run.

    Raises:
        RunError: A file of the run folder is missing or damaged.
    """
    study = yaml.safe_load(folder.read_bytes("study.yaml"))
    lost: list[Remark] = []
    embedded = reading.Embedded()
    if results.task is Task.CLASSIFICATION and "fgsm" in (
        each.get("name") for each in study["perturbations"]
    ):
        with _sparing("t-SNE", "embedding", lost):
            embedded = reading.embed(folder, results)
    lost += [Remark("embedding", sentence) for sentence in embedded.missing]
    if embedded.numbers is not None:
        tables = {**tables, "embedding": embedded.numbers}
    pictures, rows = _write_figures(folder, study, results, tables, embedded.projection, lost)
    context = replace(_context(folder, study, results, tables, verdict), pictures=pictures, examples=rows)
    for name, content in card_files(context).items():
        folder.write_bytes(content, "cards", name)
    of_run = context.remarks
    room = LARGEST - len(render(replace(context, remarks=(*of_run, *lost))).encode()) - SCRIPT_ROOM
    with _sparing("images one by one", "explorer", lost):
        context = replace(context, explorer=read_explorer(folder, results, room))
    context = replace(context, remarks=(*of_run, *lost))
    page = render(context).encode()
    folder.write_bytes(page, "report.html")
    if pdf or study.get("report", {}).get("pdf"):
        made = printed(page)
        if isinstance(made, Remark):
            lost.append(made)
        else:
            folder.write_bytes(made, "report.pdf")
    return tuple(remark.sentence for remark in lost)


@contextmanager
def _sparing(picture: str, about: str, lost: list[Remark]) -> Iterator[None]:
    """Go on without a picture that cannot be made, and note why in `lost`; damaged run folders are errors."""
    try:
        yield
    except (RunError, OSError):
        raise
    except Exception as error:  # a user's features or classes may be like nothing a library has seen
        lost.append(without(picture, error, about))


def _write_figures(
    folder: RunFolder,
    study: Mapping[str, Any],
    results: Results,
    tables: Mapping[str, pl.DataFrame],
    projection: Projection | None,
    lost: list[Remark],
) -> tuple[dict[str, Picture], tuple[Row, ...]]:
    """Write all figures, and give what the report shows: the plots, and the examples as rows of images."""
    sections = {picture: question.name for question in QUESTIONS for picture in question.pictures}
    sections |= STORY_PICTURES
    pictures: dict[str, Picture] = {}
    for name, drawing in draw(tables, Words.of(results), projection).items():
        with _sparing(f"figure '{name}'", sections[name], lost):
            pictures[name] = save_figure(folder, name, drawing())
    rows: tuple[Row, ...] = ()
    with _sparing("examples", "examples", lost):
        examples = reading.read_examples(folder, results, EXAMPLES)
        if examples is not None:
            rows = example_rows(examples)
            direct = tables["table2"].is_empty()
            source = reading.crafted_on(study, examples.source, direct=direct)
            figure = examples_figure(examples, source)
            save_figure(folder, "examples", Drawn(figure, "", ""))
        elif "examples" not in (remark.about for remark in results.left_out):
            lost.append(Remark("examples", "No examples: the run kept none."))
    if results.corruptions:
        with _sparing("corruptions", "corruptions", lost):
            examples = reading.read_examples(folder, results, CORRUPTED)
            if examples is not None:
                names = {family: [each.label for each in of] for family, of in families(results).items()}
                pictures[CORRUPTED] = save_figure(
                    folder,
                    CORRUPTED,
                    Drawn(
                        corruption_figure(examples, names),
                        "An image under every corruption, a row for each family, at rising severity.",
                        "One case, not chosen by its outcome, under every corruption: clean at the left, "
                        "then at rising severity.",
                    ),
                )
    return pictures, rows


def save_figure(folder: RunFolder, name: str, drawn: Drawn) -> Picture:
    """Write a figure as PNG and SVG, and give it as a picture for a page."""
    plot = style.svg(drawn.figure)
    folder.write_bytes(style.png(drawn.figure), "figures", f"{name}.png")
    folder.write_bytes(plot, "figures", f"{name}.svg")
    return Picture(plot, drawn.alt, drawn.caption)


def _regions(results: Results) -> dict[str, str]:
    """What the regions that are scored consist of."""
    told = [
        f"{name} ({', '.join(results.classes[number] for number in own)})"
        for name, own in results.regions.items()
    ]
    return {"regions, which are scored in place of the classes": "; ".join(told)} if told else {}


ABOUT_RUNGS = ("threats", "strongest_transfer", "transfer_candidates", "success", "selftests")
"""Tables that a report shows with the rungs of the ladder."""


def _shown(results: Results, tables: Mapping[str, pl.DataFrame]) -> Mapping[str, pl.DataFrame]:
    """The tables as a report shows them: where a study has other attacks, rungs stand on the ladder only."""
    ladder = results.ladder
    if ladder is None or {*ladder.attacks} & {*results.averaged}:
        return tables
    others = ~BASE.is_in([*ladder.attacks, *ladder.noise]).fill_null(value=False)
    return {
        name: table if name in ABOUT_RUNGS or "perturbation" not in table.columns else table.filter(others)
        for name, table in tables.items()
    }


def _context(
    folder: RunFolder,
    study: Mapping[str, Any],
    results: Results,
    tables: Mapping[str, pl.DataFrame],
    verdict: Verdict,
) -> ReportContext:
    data = results.record["data"]
    networks = counted(len(results.models), f"{results.task} network")
    return ReportContext(
        title=f"Robustness of {networks} on {data['name']}",
        task=results.task,
        unit=results.unit,
        phantom=bool(data["phantom"]),
        pixels=results.pixels,
        confidence=results.settings.confidence,
        outcome=verdict.outcome,
        verdict=verdict.sentences,
        remarks=(*remarks(tables, results.task, results.pixels), *results.left_out),
        data={
            "data set": str(data["name"]),
            "classes": f"{len(results.classes)}: {', '.join(results.classes)}",
            **_regions(results),
            **{key: str(value) for key, value in data["facts"].items()},
            f"test {results.unit}s": str(len(results.panel.patients)),
            "fingerprint (SHA-256)": str(data["fingerprint"]),
            "audit": audit_fact(results),
        },
        split=reading.read_split(folder),
        networks=reading.read_networks(folder, results.record["networks"]),
        assumed=reading.read_assumed(folder, results.record),
        attacks=reading.attack_table(study),
        threats=threat_table(study, results.record["perturbations"], results.pixels),
        tables=_shown(results, tables),
        pictures={},
        study=study,
        record=reading.without_patients(results.record),
        subgroups=subgroup_sentences(tables["subgroups"], results.unit),
        beyond_paper=tuple(
            attack.label
            for attack in results.attacks
            if attack.beyond_paper
            or attack.curve is not None
            or (results.ladder is not None and attack.label in results.ladder.attacks)
        ),
    )
