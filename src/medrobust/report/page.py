"""The report as one HTML file that opens offline: a story in three screens, then an appendix of questions."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from medrobust.analysis.table import ABSENT, CrossTable, Table, shown
from medrobust.core import Task
from medrobust.report import style
from medrobust.report.guidelines import documents
from medrobust.report.plots import in_order_of
from medrobust.report.reading import ReportContext, capitalised, crafted_on, flattened, setting

TEMPLATES = Path(__file__).with_name("templates")
EXPLORER = ("pictures.js", "explorer.js")
"""Scripts of the explorer, in their order."""

STORY = (
    ("overall", "Clean, noise and attack"),
    ("transfer", "Every attack, source and target"),
    ("noise", "Attack against noise"),
    ("corrupted", "Corruptions"),
    ("ladder", "Threat-model ladder"),
    ("examples", "What the network sees"),
    ("limits", "What this does not say"),
)
"""Sections of the story and their headings; their content is in the template."""
DIRECT = {"overall": "Clean", "transfer": "Every attack, on the network itself"}
"""Headings of a study in which nothing is transferred."""
STORY_TABLES = ("table1", "table2", "corruptions", "threats", "strongest_transfer")
STORY_PICTURES = {
    "dotplot": "overall",
    "heatmap": "transfer",
    "noise_control": "noise",
    "corruption_levels": "corrupted",
    "threats": "ladder",
}
"""Plots and their sections of the story, which shows Table 2 as a map instead of the plot."""
ONLY_AS_FILES = ("patients", "risk_coverage")
"""Tables with a row per patient and network, or per point of a curve, too long for a report."""


class Question(NamedTuple):
    """A question of the appendix, answered by text, plots and tables.

    Attributes:
        name: Its anchor, and the name of its text in `templates/words`.
        title: The question.
        pictures: Names of its plots.
        tables: Names of its tables; those laid out as maps come first.
    """

    name: str
    title: str
    pictures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


QUESTIONS = (
    Question(
        "differences",
        "How sure are the rankings?",
        pictures=("pairs", "rank_stability"),
        tables=(
            "ranking",
            "pairs",
            "order_agreement",
            "rank_stability",
            "architectures",
            "seeds",
            "variance",
        ),
    ),
    Question(
        "structures",
        "Which structures break?",
        tables=("structures", "structure_overview", "worst_structures"),
    ),
    Question(
        "boundaries",
        "What does Dice leave out?",
        tables=("surfaces", "false_positives", "structure_surfaces"),
    ),
    Question(
        "classes", "Which classes or findings break?", tables=("classes", "findings", "balanced", "quality")
    ),
    Question(
        "endpoints", "How often is the mistake made that matters?", tables=("endpoints", "endpoint_pairs")
    ),
    Question(
        "selective",
        "Does its own confidence warn?",
        pictures=("risk_coverage",),
        tables=("selective", "selective_pairs"),
    ),
    Question(
        "success",
        "Is the attack weak?",
        pictures=("curve",),
        tables=("success", "whitebox", "curve", "selftests", "budgets"),
    ),
    Question(
        "smallest",
        "How small a change is enough?",
        pictures=("smallest_linf", "smallest_l2", "smallest_l0"),
        tables=("smallest", "budget_strength", "smallest_curve"),
    ),
    Question(
        "certificates",
        "What is guaranteed?",
        pictures=("certificates",),
        tables=("certificates", "certificate_structures"),
    ),
    Question(
        "corruptions",
        "Which corruptions hurt?",
        pictures=("corruptions",),
        tables=("corruption_families", "corruption_pairs", "corruption_levels"),
    ),
    Question(
        "transforms",
        "How bad is the worst plausible image?",
        pictures=("transforms",),
        tables=("transforms",),
    ),
    Question(
        "places",
        "Do networks change places from rung to rung?",
        tables=("threat_pairs", "transfer_candidates"),
    ),
    Question("fewer", "What do attacks on fewer cases show?", tables=("fewer_cases",)),
    Question("control", "Was the noise a fair control?", tables=("noise", "noise_control", "matching")),
    Question(
        "sources",
        "Does the source of an attack matter?",
        tables=("transfer_rate", "transfer_conditions", "off_diagonal", "other_sources", "conditional"),
    ),
    Question(
        "price",
        "What does a defence cost, and what does it bring?",
        pictures=("price",),
        tables=("price", "overfitting"),
    ),
    Question("plane", "Does robustness cost clean performance?", pictures=("plane",), tables=("plane",)),
    Question(
        "embedding", "Does the network take attacks for noise?", pictures=("tsne",), tables=("embedding",)
    ),
    Question("subgroups", "Do groups of patients differ?", tables=("subgroups",)),
    Question("rounded", "Does saving with few bits undo the attacks?", tables=("rounded",)),
    Question("explorer", "What happens image by image?"),
    Question("further", "What else was counted?"),  # all tables that no question names
    Question("data", "Were the data in order?", tables=("audit", "whole_test")),
    Question("run", "What was run?"),
    Question("methods", "How was it measured?"),
    Question("guidelines", "Which documents ask for this evidence?"),
    Question("signature", "What does one sign?"),
    Question("cite", "How is it cited?"),
)
ALWAYS = ("data", "run", "methods", "cite")
"""Questions that every report answers."""
FOR_SIGNING = ("guidelines", "signature")
"""Questions that a report answers if its study asks for it (`report: {for: [...]}`)."""
ABOUT = {"selftests": "success", "curve": "success"}
"""Sections of warnings about things without a section of their own."""


class Shade(NamedTuple):
    """A cell of a map: its number, interval and colours, and whether it is framed."""

    text: str
    interval: str = ""
    style: str = ""
    framed: bool = False


class Panel(NamedTuple):
    """A table of a map, with the heading of its row names."""

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shade, ...]], ...]


class Block(NamedTuple):
    """A table or a map of the report.

    Attributes:
        title: Its title, by which it is unfolded.
        table: A table with its caption, or the panels of a map.
        name: Name of its file in `tables/`; empty if there is none.
        caption: Caption of a map.
        marks: Remarks on the rows of a table, by their names.
    """

    title: str
    table: Table | CrossTable | tuple[Panel, ...]
    name: str = ""
    caption: str = ""
    marks: Mapping[str, str] = {}

    @property
    def mapped(self) -> bool:
        """Whether it is a map."""
        return isinstance(self.table, tuple)

    @property
    def html(self) -> Markup:
        """The table; a template lays out maps."""
        if isinstance(self.table, Table):
            return Markup(self.table.to_html(self.marks))
        return Markup(self.table.to_html() if isinstance(self.table, CrossTable) else "")


def render(context: ReportContext) -> str:
    """The report.

    Raises:
        jinja2.UndefinedError: The context lacks something that a template needs.
    """
    titles = dict(STORY) | (DIRECT if context.direct else {}) | {each.name: each.title for each in QUESTIONS}
    warnings: dict[str, list[str]] = {}
    for remark in context.remarks:
        about = ABOUT.get(remark.about, remark.about)
        warnings.setdefault(about if about in titles else "overall", []).append(remark.sentence)
    named = {*STORY_TABLES, *ONLY_AS_FILES, *(name for question in QUESTIONS for name in question.tables)}
    further = [name for name in context.tables if name not in named]
    asked = context.study.get("report", {}).get("for", ())
    questions = [
        (question, shown)
        for question in QUESTIONS
        if (shown := _blocks(further if question.name == "further" else question.tables, context))
        or question.name in (*ALWAYS, *warnings)
        or any(name in context.pictures for name in question.pictures)
        or (question.name == "explorer" and context.explorer is not None)
        or (question.name in FOR_SIGNING and asked)
    ]
    sections = {"table1": "overall", "table2": "transfer", "corruptions": "corrupted", "audit": "data"}
    sections = {name: each.name for each in QUESTIONS for name in each.tables} | sections
    return filled_page(
        "report.html.j2",
        "page.js",
        *(EXPLORER if context.explorer is not None else ()),
        report=context,
        warnings=warnings,
        titles=titles,
        questions=questions,
        blocks={name: _blocks([name], context) for name in (*STORY_TABLES, "whitebox")},
        glance=at_a_glance(context),
        documents=documents(
            asked,
            [name for name, frame in context.tables.items() if frame.height],
            _title,
            lambda name: sections.get(name, "further"),
        ),
    )


def filled_page(template: str, *scripts: str, **facts: object) -> str:
    """A page with scripts, whose content security policy allows these and nothing else."""
    texts = script_texts(*scripts)
    return environment().get_template(template).render(facts, scripts=texts, allowed=allowed(texts))


def script_texts(*names: str) -> list[str]:
    """The content of scripts."""
    return [(TEMPLATES / name).read_text(encoding="utf-8") for name in names]


def allowed(scripts: Iterable[str]) -> str:
    """Source expressions of a content security policy that allows these scripts and no others."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{each}'" for each in hashes) or "'none'"


def environment() -> Environment:
    """Templates of pages: unknown names are errors, and everything is escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({"flattened": flattened, "setting": setting, "breakable": _breakable})
    made.globals.update({"plain_block": plain, "crafted_on": crafted_on})
    return made


def _breakable(text: str) -> Markup:
    """A name that may wrap after its underscores."""
    return escape(text).replace("_", Markup("_<wbr>"))


def at_a_glance(context: ReportContext) -> list[tuple[str, str]]:
    """The size of the study, as names and numbers."""
    cells = context.cells
    points = context.tables.get("curve", pl.DataFrame(schema=["perturbation", "curve"]))
    curve = dict(points.select("perturbation", "curve").iter_rows())
    empty = context.tables.get("false_positives", pl.DataFrame(schema={"n_empty": pl.Int64}))["n_empty"].max()
    return [
        ("networks judged", str(context.tables["table1"].height)),
        ("attacks", str(len({curve.get(label, label) for label in cells["perturbation"]}))),
        ("sources of attacks", str(cells["source"].n_unique())),
        (f"test {context.units}", shown(cells["n_patients"].max())),
        ("test cases", shown(cells["n_cases"].max())),
        *([] if empty is None else [("without any label", shown(empty))]),
    ]


def _blocks(names: Iterable[str], context: ReportContext) -> list[Block]:
    """The tables of a section, maps first."""
    filled = (name for name in names if name in context.tables and context.tables[name].height)
    shown = [block for name in filled for block in blocks(name, context)]
    return sorted(shown, key=lambda block: not block.mapped)


# ---- captions ----

CAPTIONS: Mapping[str, Mapping[str, str]] = yaml.safe_load((TEMPLATES / "tables.yaml").read_text("utf-8"))
"""Titles and captions of tables, and of their maps."""
FOOLED = {
    Task.CLASSIFICATION: "fooled is the fraction of images that it gets wrong then, fooled of right the same "
    "among those it gets right when clean",
    Task.MULTILABEL: "fooled is the mean fraction of an image's attacked findings that it gets wrong then, "
    "fooled of right the same among images of which it gets all of these right when clean",
    Task.SEGMENTATION: "fooled is the fraction of the {pixels} to be changed that it shows as the attack "
    "wanted",
}


def caption(name: str, context: ReportContext, of: object = "", **facts: object) -> str:
    """The caption of a table, which may be about a part `of` it; of an unknown table, its name.

    `x.map` is the caption of the map of table x; `facts` fill in what only this caption says.
    """
    table, _, part = name.partition(".")
    known = CAPTIONS.get(table, {})
    usual = "of_findings" if context.task is Task.MULTILABEL and "of_findings" in known else "caption"
    text = known.get(part or usual, capitalised(name.replace("_", " ")) + ".")
    return text.format(
        Score=capitalised(context.score),
        score=context.score,
        basis=f"Brackets: {100 * context.confidence:g}\u00a0% intervals over {context.units}.",
        on_noise=context.noise and f", on {context.noise},",
        unit=context.unit,
        units=context.units,
        of=of,
        fooled=FOOLED[context.task].format(pixels=context.pixels),
        **facts,
    )


# ---- layouts ----

AS_STORED = ~pl.col("perturbation").str.contains("~", literal=True)
"""Leaves out rounded images."""
NO_NOISE = AS_STORED & ~pl.col("perturbation").str.contains("@", literal=True)
BEYOND = " †"
BEYOND_SAID = " † beyond the paper: in no average or verdict of a study that has attacks of the paper."
SAID = " The marks go by the tests of the adversarial score."
PAIRS = (
    *("first", "second", "difference", "p_holm", "false_claim", "verdict"),
    *("drop_difference", "clean_difference", "p_equal_holm", "equally_good", "patients_needed"),
)
"""Columns of `pairs` that are shown."""
CHANGES = ("ssim", "ssim_image", "psnr", "mse", "l0", "l2_mean", "linf", "steps")
"""Columns of `success` that measure the images."""
MEASURES = ("dice", "nsd", "hd95", "volume_error")
"""Columns of `structure_overview` that are shown."""
WORST = ("target", "perturbation", "structure", "score", "n_patients", "volume_error")
PAINTED = ("absent_volume", "empty_painted", "empty_volume")


def blocks(name: str, context: ReportContext) -> list[Block]:
    """A table of the report, in one or more pieces."""
    table = Table.of(name, context.tables[name], context.unit)
    if name in LAYOUTS:
        return LAYOUTS[name](table, context)
    if table.layout:
        return [_map(table, context, heat(table.rows, *table.layout), name)]
    if name in EXTRACTS:
        table = EXTRACTS[name](table)
    return [_plain(table, context)] if table.rows.height else []


def heat(
    frame: pl.DataFrame, row: str, panel: str, column: str, value: str = "score", *, bounded: bool = True
) -> tuple[Panel, ...]:
    """A map of a long table; the lower a number, the darker its cell.

    Args:
        frame: The table; its order is kept.
        row: Column whose values head the rows.
        panel: Column whose values head the panels; empty for a single one.
        column: Column whose values head the columns.
        value: Column of the numbers; their intervals are in `low` and `high`, or in columns named after it.
        bounded: Whether to show the intervals, and three digits instead of two.
    """
    frame = frame.fill_nan(None).with_columns(pl.lit("").alias(""))
    norm = style.limits(frame[value])
    ends = ("low", "high") if value == "score" else (f"{value}_low", f"{value}_high")

    def shade(line: Mapping[str, Any] | None, framed: bool) -> Shade:
        if line is None or line[value] is None:
            return Shade(ABSENT)
        colour, ink = style.shades(line[value], norm)
        low, high = (line.get(end) for end in ends) if bounded else (None, None)
        interval = "" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"
        return Shade(
            f"{line[value]:.{3 if bounded else 2}f}", interval, f"background:{colour};color:{ink}", framed
        )

    panels = []
    for (title,), rows in frame.group_by(panel, maintain_order=True):
        cells = {(line[row], line[column]): line for line in rows.iter_rows(named=True)}
        names, heads = (rows[each].unique(maintain_order=True).to_list() for each in (row, column))
        heads = in_order_of(names, heads)
        lines = tuple(
            (name, tuple(shade(cells.get((name, head)), name == head) for head in heads)) for name in names
        )
        corner = f"{row} \\ {column}" if column == "source" else row
        panels.append(Panel(str(title), corner, tuple(head or ABSENT for head in heads), lines))
    return tuple(panels)


def plain(frame: pl.DataFrame, caption: str, unit: str, title: str = "") -> Block:
    """Any table as it is, for templates."""
    return Block(title, Table.of("", frame, unit, caption).filled())


def _title(name: str) -> str:
    return CAPTIONS.get(name, {}).get("title", capitalised(name.replace("_", " ")))


def _captioned(table: Table, context: ReportContext, of: object = "", **facts: object) -> Table:
    """The table with its caption, without empty columns."""
    return replace(table, caption=caption(table.name, context, of, **facts)).filled()


def _plain(table: Table, context: ReportContext, title: str = "", of: object = "", **facts: object) -> Block:
    return Block(title or _title(table.name), _captioned(table, context, of, **facts), table.name)


def _map(
    table: Table, context: ReportContext, panels: tuple[Panel, ...], words: str, **facts: object
) -> Block:
    """A map with the caption `words`."""
    return Block(_title(table.name), panels, table.name, caption(words, context, **facts))


def _balanced(table: Table, context: ReportContext) -> list[Block]:
    """The layout of Table 2; noise is in the CSV only."""
    cells = table.rows.filter(NO_NOISE)
    panels = heat(cells, "target", "perturbation", "source", "balanced_accuracy")
    return [_map(table, context, panels, "balanced")]


def _certificates(table: Table, context: ReportContext) -> list[Block]:
    """What all rows share, and what was fixed beforehand, stands in the caption; tau is in the CSV."""
    asked, measure = context.study["certificates"], table.rows["measure"].item(0)
    n_cases = table.rows["n_cases"].max()
    facts = {**asked, "Measure": capitalised(measure), "cases_said": f"{shown(n_cases)} cases"}
    return [_plain(table.without("sigma", "measure", "tau", "n_cases"), context, **facts)]


def _certificate_structures(table: Table, context: ReportContext) -> list[Block]:
    """Certified Dice of structures by radius, a cross table for each network; the CSV has the rest."""
    rows = table.rows.with_columns(pl.format("radius {}", pl.col("radius").round(4)).alias("radius"))
    radii = _captioned(Table.of(table.name, rows, table.unit), context)
    return [
        Block(
            f"Certified structures of {target}",
            each.crossed("structure", "radius", values=["certified"]),
            table.name,
        )
        for target, each in radii.by("target").items()
    ]


def _corruptions(table: Table, context: ReportContext) -> list[Block]:
    """Means over families; what errors are relative to stands in the caption."""
    baseline = table.rows["baseline"].drop_nulls().unique().to_list()
    said = (
        f" BE and relative BE: balanced errors as in MedMNIST-C, relative to those of {baseline[0]}."
        if baseline
        else ""
    )
    return [_plain(table.without("baseline"), context, balanced=said)]


def _families(table: Table, context: ReportContext) -> list[Block]:
    """A map, the family that takes most first, and the table."""
    order = table.rows.group_by("family", maintain_order=True).agg(lost=pl.col("drop_points").mean())
    falling = table.rows.join(order, on="family", maintain_order="left").sort(
        "lost", descending=True, nulls_last=True, maintain_order=True
    )
    panels = heat(falling, "family", "", "target")
    plain = table.without("preset", "baseline")
    return [_map(table, context, panels, f"{table.name}.map"), _plain(plain, context)]


def _conditions(table: Table) -> Table:
    """Truth values and fractions in words, also what is unknown."""
    flags = pl.col("same_architecture", "same_pretraining").cast(pl.String)
    words = flags.replace({"true": "yes", "false": "no"}).fill_null("unknown")
    percent = pl.format("{}\u00a0%", (100 * pl.col("shared_training")).round().cast(pl.Int64))
    rows = table.rows.with_columns(words, shared_training=percent.fill_null("unknown"))
    return Table.of(table.name, rows, table.unit)


def _ranks(table: Table) -> Table:
    """Ranks in one column, "1" or "2 to 3"; the scores are in Table 1, with their intervals."""
    low, high = (pl.col(f"rank_{end}").cast(pl.String) for end in ("low", "high"))
    rank = pl.when(low == high).then(low).otherwise(low + " to " + high)
    rows = table.rows.select("model", rank.alias("rank"), "share_first", "above_majority")
    return Table.of(table.name, rows, table.unit)


def _stability(table: Table, context: ReportContext) -> list[Block]:
    """A cross table of networks and ranks for each condition."""
    ranks = table.rows.with_columns(place=pl.format("rank {}", "place"))
    conditions = _captioned(Table.of(table.name, ranks, table.unit), context).by("condition")
    return [
        Block(
            f"{_title(table.name)}, {condition}",
            each.crossed("model", "place", values=["frequency"]),
            table.name,
        )
        for condition, each in conditions.items()
    ]


def _by_target(row: str, table: Table, context: ReportContext) -> list[Block]:
    """A map, rows that lose most first, and a table per target; rounded images are in the CSV only."""
    attacked = table.rows.filter(NO_NOISE)
    clean = pl.col("score").filter(pl.col("perturbation") == "clean").mean()
    attack = pl.col("score").filter(pl.col("perturbation") != "clean").mean()
    order = attacked.group_by(row, maintain_order=True).agg(lost=clean - attack)
    falling = attacked.join(order, on=row, maintain_order="left").sort(
        "lost", descending=True, nulls_last=True, maintain_order=True
    )
    stored = table.where(AS_STORED)
    targets = stored.rows["target"].unique(maintain_order=True)
    kept = pl.concat(falling.filter(target=target) for target in targets)
    panels = heat(kept, row, "target", "perturbation", bounded=False)
    return [
        _map(table, context, panels, f"{table.name}.map"),
        *_of_targets(stored, context, f"{_title(table.name)} of", row),
    ]


def _of_targets(
    table: Table,
    context: ReportContext,
    title: str,
    row: str,
    values: Sequence[str] = ("score",),
    **facts: object,
) -> list[Block]:
    """A cross table per target, with perturbations as columns."""
    made = []
    for target, each in table.by("target").items():
        captioned = _captioned(each, context, target, attack=each.rows["perturbation"].item(-1), **facts)
        crossed = captioned.crossed(row, "perturbation", values=values)
        made.append(Block(f"{title} {target}", crossed, table.name))
    return made


def _selftests(table: Table, context: ReportContext) -> list[Block]:
    """A row per attack and source, a column per check; what was seen is in the CSV."""
    passed = pl.col("passed").cast(pl.String).replace({"true": "passed", "false": "failed"})
    keys = ["perturbation", "source", "source_seed"]
    wide = table.rows.with_columns(passed).pivot("check", index=keys, values="passed")
    images, part = table.rows["n_images"].max(), table.rows["cases"].item(0)
    return [_plain(Table.of(table.name, wide, context.unit), context, images=images, part=part)]


def _success(table: Table, context: ReportContext) -> list[Block]:
    """Who was fooled as a map and a table, and the size of the changes."""
    roles = {"transfer": "surrogates", "whitebox": "the judged networks (white-box)"}
    rows = table.rows.with_columns(pl.col("role").replace(roles))
    fooled = heat(rows, "perturbation", "role", "source", "fooled", bounded=False)
    changes = replace(table, caption=caption("changes", context)).filled()
    keys = ("perturbation", "source", "role")
    measured = [each.name for each in changes.columns if each.name in CHANGES]
    return [
        _map(table, context, fooled, "success.map"),
        _plain(table.without(*CHANGES, "l2_median"), context),
        Block(_title("changes"), changes.select(*keys, *measured), table.name),
    ]


def _subgroups(table: Table, context: ReportContext) -> list[Block]:
    """A map of all attributes, and a table of each."""
    panels = heat(table.rows, "group", "attribute", "model", "adversarial", bounded=False)
    return [
        _map(table, context, panels, "subgroups.map"),
        *(
            _plain(each, context, f"By {attribute}", attribute)
            for attribute, each in table.by("attribute").items()
        ),
    ]


def _false_positives(table: Table, context: ReportContext) -> list[Block]:
    """Measures by condition; nothing if no case could have a false positive."""
    if all(table.rows[name].null_count() == table.rows.height for name in PAINTED):
        return []
    counts = table.rows.row(0, named=True)
    captioned = _captioned(
        table,
        context,
        "",
        volume=counts["unit"],
        absent=f"{shown(counts['n_absent'])} here",
        empty=f"{shown(counts['n_empty'])} of {shown(counts['n_cases'])}",
    )
    names = [each.name for each in captioned.columns if each.name in PAINTED]
    return [Block(_title(table.name), captioned.crossed("model", "condition", values=names), table.name)]


def _structure_overview(table: Table, context: ReportContext) -> list[Block]:
    """Structures by measures, clean beside attacked."""
    return _of_targets(table, context, "All measures of", "structure", MEASURES, **_lengths(table))


def _structure_surfaces(table: Table, context: ReportContext) -> list[Block]:
    """NSD of structures; HD95 is in the CSV."""
    title = "NSD of the structures of"
    return _of_targets(table, context, title, "structure", ["nsd"], **_lengths(table))


def _surfaces(table: Table, context: ReportContext) -> list[Block]:
    """The unit and tolerance, which all rows share, are in the caption."""
    panels = heat(table.rows.filter(NO_NOISE), "target", "", "perturbation", "nsd")
    lengths = _lengths(table)
    return [
        _map(table, context, panels, "surfaces.map", **lengths),
        _plain(table.without("tolerance", "unit"), context, **lengths),
    ]


def _lengths(table: Table) -> dict[str, str]:
    unit, tolerance = table.rows["unit"].item(0), table.rows["tolerance"].item(0)
    return {"length": unit, "tolerance": f"{tolerance:g}\u00a0{unit}"}


def _table1(table: Table, context: ReportContext) -> list[Block]:
    """Networks that no test ranks below another are marked."""
    if context.direct:
        alone = replace(table, caption=caption("table1.direct", context)).filled()
        return [Block("Table 1", alone, "table1")]
    marks = _marks(context.tables.get("ranking"))
    text = caption("table1", context) + (SAID if marks else "")
    return [Block("Table 1", replace(table, caption=text), "table1", marks=marks)]


def _marks(ranking: pl.DataFrame | None) -> dict[str, str]:
    """Marks of networks that no test ranks below another: "best" only for a single one."""
    if ranking is None or ranking.height < 2:
        return {}
    first = ranking.filter(pl.col("rank_low") == 1)["model"].to_list()
    if len(first) < 2:
        return dict.fromkeys(first, "best")
    return dict.fromkeys(first, "not distinguishable from the highest") | {first[0]: "highest score"}


def _table2(table: Table, context: ReportContext) -> list[Block]:
    """Attacks beyond the paper are marked; if there are any, the caption says what the mark means."""
    names = {label: label + BEYOND for label in context.beyond_paper}
    rows = table.rows.with_columns(pl.col("perturbation").replace(names))
    words = "table2.others" if context.study["surrogates"]["models"] == "others" else "table2"
    block = _map(table, context, heat(rows, *table.layout), words)
    note = BEYOND_SAID if table.rows["perturbation"].is_in(list(names)).any() else ""
    return [block._replace(caption=block.caption + note)]


def _rounded(table: Table, context: ReportContext) -> list[Block]:
    panels = heat(table.rows, "model", "", "rounding", "adversarial")
    return [_map(table, context, panels, "rounded.map"), _plain(table, context)]


def _whitebox(table: Table, context: ReportContext) -> list[Block]:
    return [_map(table, context, heat(table.rows, "target", "", "perturbation"), "whitebox")]


def _threats(table: Table, context: ReportContext) -> list[Block]:
    """A map with a rung in each row, and the table."""
    panels = heat(table.rows, "rung", "", "target")
    return [_map(table, context, panels, "threats.map"), _plain(table, context)]


def _transforms(table: Table, context: ReportContext) -> list[Block]:
    """A map for each network, and the table."""
    panels = heat(table.rows, "family", "target", "search")
    return [_map(table, context, panels, "transforms.map"), _plain(table.without("perturbation"), context)]


LAYOUTS: Mapping[str, Callable[[Table, ReportContext], list[Block]]] = {
    "balanced": _balanced,
    "certificates": _certificates,
    "certificate_structures": _certificate_structures,
    "classes": partial(_by_target, "class"),
    "corruption_families": _families,
    "corruptions": _corruptions,
    "findings": partial(_by_target, "finding"),
    "false_positives": _false_positives,
    "rank_stability": _stability,
    "rounded": _rounded,
    "selftests": _selftests,
    "structures": partial(_by_target, "structure"),
    "structure_overview": _structure_overview,
    "structure_surfaces": _structure_surfaces,
    "subgroups": _subgroups,
    "success": _success,
    "surfaces": _surfaces,
    "table1": _table1,
    "table2": _table2,
    "threats": _threats,
    "transforms": _transforms,
    "whitebox": _whitebox,
}
"""Tables that are shown in a way of their own."""

EXTRACTS: Mapping[str, Callable[[Table], Table]] = {
    "off_diagonal": lambda table: table.without("note").where(pl.col("adversarial").count() > 0),
    "pairs": lambda table: table.select(*PAIRS),
    "plane": lambda table: table.select("model", "clean", "adversarial", "on_front"),
    "quality": lambda table: table.where(NO_NOISE),
    "ranking": _ranks,
    "seeds": lambda table: table.where(pl.col("model").is_duplicated().any()),
    "transfer_conditions": _conditions,
    "transfer_rate": lambda table: table.where(pl.col("n_cases").sum() > 0),
    "worst_structures": lambda table: table.select(*WORST).where(AS_STORED),
}
"""What is shown of tables, if anything; the CSV has the rest."""
