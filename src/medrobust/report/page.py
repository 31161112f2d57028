"""The report as one HTML file that opens offline: a story of three screens, then an appendix of questions."""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from medrobust.analysis.table import ABSENT, CrossTable, Table, shown
from medrobust.core import Task
from medrobust.report import style
from medrobust.report.reading import ReportContext, capitalised, flattened, setting

TEMPLATES = Path(__file__).with_name("templates")
EXPLORER = ("pictures.js", "explorer.js")
"""Scripts of the explorer, in their order."""

STORY = (
    ("overall", "Clean, noise and attack"),
    ("transfer", "Every attack, source and target"),
    ("noise", "Attack against noise"),
    ("examples", "What the network sees"),
    ("limits", "What this does not say"),
)
"""Sections of the story and their headings; the template tells it."""
STORY_TABLES = ("table1", "table2")
STORY_PICTURES = {"dotplot": "overall", "heatmap": "transfer", "noise_control": "noise"}
"""Plots of the story, and their sections. The report shows Table 2 as a map of its own."""
ONLY_AS_FILES = ("patients",)
"""Tables with a row per patient and network, too long to be read here."""


class Question(NamedTuple):
    """A question of the appendix: words (`templates/words`), a picture or map, and the tables behind it.

    Attributes:
        name: Its anchor, and the name of its words.
        title: The question.
        pictures: Names of its plots.
        tables: Names of its tables; what is laid out as a map opens the question.
    """

    name: str
    title: str
    pictures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


QUESTIONS = (
    Question(
        "differences",
        "How sure are the rankings?",
        ("pairs",),
        ("ranking", "pairs", "architectures", "seeds", "variance"),
    ),
    Question(
        "structures", "Which structures break?", (), ("structures", "structure_overview", "worst_structures")
    ),
    Question(
        "boundaries", "What does Dice leave out?", (), ("surfaces", "false_positives", "structure_surfaces")
    ),
    Question("classes", "Which classes break?", (), ("classes", "balanced", "quality")),
    Question(
        "success",
        "Is the attack weak?",
        ("curve",),
        ("success", "whitebox", "curve", "selftests", "budgets"),
    ),
    Question("control", "Was the noise a fair control?", (), ("noise", "noise_control", "matching")),
    Question(
        "sources",
        "Does the source of an attack matter?",
        (),
        ("transfer_rate", "transfer_conditions", "off_diagonal", "other_sources", "conditional"),
    ),
    Question("plane", "Does robustness cost clean performance?", ("plane",), ("plane",)),
    Question("embedding", "Does the network take attacks for noise?", ("tsne",), ("embedding",)),
    Question("subgroups", "Do groups of patients differ?", (), ("subgroups",)),
    Question("rounded", "Does saving with few bits undo the attacks?", (), ("rounded",)),
    Question("explorer", "What happens image by image?"),
    Question("data", "Were the data in order?", (), ("audit", "whole_test")),
    Question("run", "What was run?"),
    Question("methods", "How was it measured?"),
    Question("cite", "How is it cited?"),
)
ALWAYS = ("data", "run", "methods", "cite")
"""Questions that every report answers."""
ABOUT = {"selftests": "success", "curve": "success"}
"""Where a warning stands that is about something without a section of its own."""


class Shade(NamedTuple):
    """A cell of a map: its number, the interval, its colours, and whether it is framed."""

    text: str
    interval: str = ""
    style: str = ""
    framed: bool = False


class Panel(NamedTuple):
    """One of the tables that make up a map."""

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shade, ...]], ...]


class Block(NamedTuple):
    """A table or a map of the report.

    Attributes:
        title: By which it is opened.
        table: With its caption; of a map, the panels.
        name: Of its file in `tables/`; empty for what has none.
        caption: Of a map.
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
        """The table; a map is laid out by a template."""
        if isinstance(self.table, Table):
            return Markup(self.table.to_html(self.marks))
        return Markup(self.table.to_html() if isinstance(self.table, CrossTable) else "")


def render(context: ReportContext) -> str:
    """The report.

    Raises:
        jinja2.UndefinedError: A template asks for something that the context does not have.
    """
    titles = dict(STORY) | {each.name: each.title for each in QUESTIONS}
    told: dict[str, list[str]] = {}
    for remark in context.remarks:
        about = ABOUT.get(remark.about, remark.about)
        told.setdefault(about if about in titles else "overall", []).append(remark.sentence)
    questions = [
        (question, shown)
        for question in _questions(context.tables)
        if (shown := _blocks(question.tables, context))
        or question.name in (*ALWAYS, *told)
        or any(name in context.pictures for name in question.pictures)
        or (question.name == "explorer" and context.explorer is not None)
    ]
    scripts = script_texts("page.js", *(EXPLORER if context.explorer is not None else ()))
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=context,
            told=told,
            titles=titles,
            questions=questions,
            blocks={name: _blocks([name], context) for name in STORY_TABLES},
            glance=at_a_glance(context),
            scripts=scripts,
            allowed=allowed(scripts),
        )
    )


def script_texts(*names: str) -> list[str]:
    """Scripts as they stand in a page."""
    return [(TEMPLATES / name).read_text(encoding="utf-8") for name in names]


def allowed(scripts: Iterable[str]) -> str:
    """Source expressions of a content security policy that allows these scripts and no others."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{each}'" for each in hashes)


def environment() -> Environment:
    """Templates of pages: every name must be known, and everything is escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({"flattened": flattened, "setting": setting, "breakable": _breakable})
    made.globals.update({"plain_block": plain})
    return made


def _breakable(text: str) -> Markup:
    """A name that may wrap after its underscores."""
    return escape(text).replace("_", Markup("_<wbr>"))


def at_a_glance(context: ReportContext) -> list[tuple[str, str]]:
    """The size of the study: what was judged, how often, on how much."""
    cells = context.tables["table2"]
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


def _questions(tables: Mapping[str, pl.DataFrame]) -> list[Question]:
    """All questions; tables that none of them names stand in one before the data."""
    named = {*STORY_TABLES, *ONLY_AS_FILES, *(name for question in QUESTIONS for name in question.tables)}
    further = tuple(name for name in tables if name not in named)
    place = [question.name for question in QUESTIONS].index("data")
    return [
        *QUESTIONS[:place],
        Question("further", "What else was counted?", (), further),
        *QUESTIONS[place:],
    ]


def _blocks(names: Iterable[str], context: ReportContext) -> list[Block]:
    """The tables of a section, maps first."""
    filled = (name for name in names if name in context.tables and context.tables[name].height)
    shown = [block for name in filled for block in blocks(name, context)]
    return sorted(shown, key=lambda block: not block.mapped)


# ---- what stands above each table ----

CAPTIONS = {
    "table1": "Table 1. {Score} of each network on clean images, on {noise}, and its mean over all attacks "
    "and sources. Drops are paired, from clean to adversarial: in points, and in % of clean. {basis}",
    "table2": "Table 2. {Score} under each attack, target by source; the darker, the lower. Framed: the "
    "source is the target's own surrogate, of the same architecture but trained apart. {basis}",
    "false_positives": "False positives that {score} leaves out. Absent structures: volume ({volume} per "
    "scan) predicted of structures that the scan does not have ({absent}). Empty cases: fraction of the "
    "evaluated cases without any label ({empty}) in which anything is predicted, and the volume predicted "
    "there. Means over the scans concerned, without intervals.",
    "whole_test": "{Score} on clean images of the whole test set. Table 1 is on the cases that are "
    "attacked; nothing else is computed from these. {basis}",
    "off_diagonal": "Adversarial score over sources of other architectures only; networks do not see "
    "identical images here. {basis}",
    "balanced": "Balanced accuracy (the mean over classes) on clean images and under each attack, target "
    "by source. {basis}",
    "plane": "Clean and mean adversarial score of each network. On front: no other network is at least as "
    "good in both and better in one.",
    "quality": "F1 and area under the ROC curve (means over the classes that occur), Brier score (0 to 2), "
    "expected calibration error, and mean confidence in wrong answers. Without intervals.",
    "worst_structures": "The structure with the lowest mean {Score} of each network, and its volume error: "
    "the mean of (predicted \u2212 true) / true. {basis}",
    "seeds": "Each trained network alone. So few seeds show no variance and have no interval.",
    "variance": "Standard deviation of {score} between {units}, and of its mean between trainings of the "
    "network itself and of the networks that attacks were crafted on (from three trainings on).",
    "ranking": "Ranks that the tests leave open, best network first. Fraction first: of resamples of the "
    "{units} in which the network comes first (not shown below 20 {units}).",
    "pairs": "Each pair of networks under attack: difference in mean adversarial score, first minus "
    "second, paired; p by sign flips of {unit} totals, Holm-adjusted. Beside it, without weight in the "
    "verdict: the difference in drop, on clean images (p equal: two one-sided tests), and the {units} "
    "needed for 80\u00a0% power. {basis}",
    "curve": "{Score} at each budget and under the noise matched to it, averaged over the sources that all "
    "networks face. {basis}",
    "transfer_conditions": "What a source shares with a target; the more, the easier an attack transfers. "
    "Same pre-training: both started from the same weights, which inflates transfer. Shared training: "
    "fraction of the source's training {units} that trained the target too. Unknown: the network was not "
    "trained here.",
    "architectures": "Differences in mean adversarial score between architectures, first minus second; "
    "{units} and seeds are resampled crossed, percentile intervals. {basis}",
    "conditional": "Table 2 on the scans of which no attack dropped a case: conditional on what the "
    "attacks reached, so not comparable with Tables 1 and 2. {basis}",
    "other_sources": "Attacks from sources that only some targets face; they enter no average. {basis}",
    "transfer_rate": "Fraction of images fooled among those that the source and every target get right "
    "when clean.",
    "noise": "{Score} on {noise}; matched noise by the source of its attack. {basis}",
    "noise_control": "Each attack against its own matched noise: does it harm more than noise that changes "
    "the images as much? Extra drop in points, paired; p by sign flips, Holm-adjusted. {basis}",
    "matching": "How well the noise reaches the SSIM of its attack (means over the support). Unreachable: "
    "images for which no strength comes within the tolerance.",
    "whitebox": "{Score} when the attack is crafted on the judged network itself. {basis}",
    "structure_overview": "Each structure of {of}, clean and under {attack}, the attack with its lowest "
    "mean {Score}: {Score}, NSD within {tolerance}, HD95 in {length}, and volume error, the mean of "
    "(predicted \u2212 true) / true; averaged over the sources that all networks face. {basis}",
    "structures": "{Score} of each structure of {of}, averaged over the sources that all networks face. "
    "{basis}",
    "structures_map": "{Score} of each structure, clean and under each attack; the structures that lose "
    "most come first. Averages over the sources that all networks face.",
    "audit": "What an audit of all files found, one row per kind, the first case of it in words "
    "(audit.json has all). Errors make numbers wrong, warnings may mislead, notes are worth knowing.",
    "subgroups": "{Score} by {of}: clean, with noise and under attack, and the paired drop from clean to "
    "adversarial in points. {basis}",
    "subgroups_map": "{Score} under attack of each group of {units}; the darker, the lower.",
    "surfaces": "Boundaries, means over structures. NSD: fraction of the boundaries of truth and "
    "prediction within {tolerance} of each other (0 where nothing is predicted). HD95: the larger of the "
    "two 95th percentiles of their distances, in {length}; it needs the structure in both, else the case "
    "is left out (see HD95 undefined, and compare NSD). Missed: of cases with a structure, the fraction in "
    "which nothing of it is predicted. Added: of cases that show one, the fraction without it in truth. "
    "{basis}",
    "surfaces_map": "NSD within {tolerance} of each network, mean over structures; the darker, the lower.",
    "structure_surfaces": "NSD within {tolerance} of each structure of {of}, averaged over the sources "
    "that all networks face. {basis}",
    "classes": "Fraction of the images of each class that {of} gets right, over the sources that all "
    "networks face. {basis}",
    "classes_map": "Fraction of the images of each class that are right, clean and under each attack; the "
    "classes that lose most come first. Averages over the sources that all networks face.",
    "success": "Whether each attack fooled the network it was crafted on, measured once on the images as "
    "stored: {fooled}, what was wrong before, and what became of the images.",
    "success_map": "How often each attack fooled its own source: {fooled}. A light cell is a strong "
    "attack, a dark one says little about the targets.",
    "changes": "How far the attacks changed the images: means, and of steps the median. PSNR in dB is over "
    "the images that changed at all; L0 counts the changed values of an image, L∞ is the largest change.",
    "budgets": "Budgets solved for an SSIM on validation cases, and the mean SSIM they reach on the test "
    "cases.",
    "selftests": "Whether each attack is as strong as it should be on the network it was crafted on, tried "
    "on {images} {part} cases (dash: does not apply, or these images cannot tell). Attacks that fail stay "
    "in Tables 1 and 2 and are left out of the verdict.",
    "rounded": "Table 1 on attacked and noisy images rounded to the bits they would be saved with. {basis}",
    "rounded_map": "Mean adversarial {score} of each network when images are rounded before the network "
    "sees them.",
    "embedding": "How far attack and noise move images in the network's features (ratio, geometric mean), "
    "and the fraction of an image's 10 nearest clean neighbours that have its class; over at most about "
    "2,000 cases. {basis}",
}
TITLES = {
    "table1": "Table 1",
    "table2": "Table 2",
    "noise": "Matched noise by source",
    "noise_control": "Attack against its noise",
    "matching": "SSIM of noise and attack",
    "whole_test": "Clean score on the whole test set",
    "off_diagonal": "Sources of other architectures",
    "balanced": "Balanced accuracy",
    "quality": "Calibration and other measures",
    "seeds": "Each training",
    "variance": "Sources of variance",
    "pairs": "Pairs of networks",
    "curve": "Score at each budget",
    "transfer_conditions": "What source and target share",
    "architectures": "Differences between architectures",
    "conditional": "Table 2 without dropped cases",
    "other_sources": "Sources that only some targets face",
    "whitebox": "White-box attacks",
    "success": "Success of each attack",
    "changes": "Size of the changes",
    "selftests": "Self-tests of the attacks",
    "budgets": "Solved budgets",
    "surfaces": "Boundaries",
    "rounded": "Table 1 on rounded images",
    "embedding": "Numbers in feature space",
    "plane": "Clean and adversarial score",
    "audit": "Findings of the audit",
}
"""Short names of tables; others go by the name of their file."""
FOOLED = {
    Task.CLASSIFICATION: "fooled is the fraction of images that it gets wrong then, fooled of right the same "
    "among those it gets right when clean",
    Task.SEGMENTATION: "fooled is the fraction of the pixels to be changed that it shows as the attack "
    "wanted",
}


def caption(name: str, context: ReportContext, of: object = "", **facts: object) -> str:
    """The caption of a table, or of its part about one network; an unknown table goes by its name.

    `facts` are what only this caption says.
    """
    return CAPTIONS.get(name, capitalised(name.replace("_", " ")) + ".").format(
        Score=capitalised(context.score),
        score=context.score,
        basis=f"Brackets: {100 * context.confidence:g}\u00a0% intervals over {context.units}.",
        noise="noise matched to the attacks" if context.matched_noise else "noise of fixed strength",
        unit=context.unit,
        units=context.units,
        of=of,
        fooled=FOOLED[context.task],
        **facts,
    )


# ---- how each table is laid out ----

AS_STORED = ~pl.col("perturbation").str.contains("~", literal=True)
"""Leaves out images that were rounded."""
NO_NOISE = AS_STORED & ~pl.col("perturbation").str.contains("@", literal=True)
UNKNOWN = "unknown"
BEYOND = " †"
BEYOND_SAID = " † beyond the paper: in no average or verdict of a study that has attacks of the paper."
SAID = " The marks go by the tests of the adversarial score."
PAIRS = (
    *("first", "second", "difference", "p_holm", "verdict"),
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
    """A table of the report, in as many pieces as it is read in."""
    table = Table.of(name, context.tables[name], context.unit)
    if name in LAYOUTS:
        return LAYOUTS[name](table, context)
    if table.layout:
        return [_map(table, context, heat(table.rows, *table.layout), name)]
    return [_plain(table, context)]


def heat(
    frame: pl.DataFrame, row: str, panel: str, column: str, value: str = "score", *, bounded: bool = True
) -> tuple[Panel, ...]:
    """A map of a long table: its cells are the darker the lower.

    Args:
        frame: Any table; its order is kept.
        row: Column of the rows.
        panel: Column of the panels; empty for a single one.
        column: Column of the columns.
        value: Column of the numbers; `low` and `high`, or its own bounds, are its interval.
        bounded: Whether to show the interval, and three digits instead of two.
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
        heads = rows[column].unique(maintain_order=True).to_list()
        lines = tuple(
            (name, tuple(shade(cells.get((name, head)), name == head) for head in heads))
            for name in rows[row].unique(maintain_order=True)
        )
        corner = f"{row} \\ {column}" if column == "source" else row
        panels.append(Panel(str(title), corner, tuple(head or ABSENT for head in heads), lines))
    return tuple(panels)


def plain(frame: pl.DataFrame, caption: str, unit: str, title: str = "") -> Block:
    """Any frame, as it is."""
    return Block(title, Table.of("", frame, unit, caption).filled())


def _title(name: str) -> str:
    return TITLES.get(name, capitalised(name.replace("_", " ")))


def _told(table: Table, context: ReportContext, of: object = "", **facts: object) -> Table:
    """The table with its caption, and without columns that hold no value."""
    return replace(table, caption=caption(table.name, context, of, **facts)).filled()


def _plain(table: Table, context: ReportContext, title: str = "", of: object = "", **facts: object) -> Block:
    return Block(title or _title(table.name), _told(table, context, of, **facts), table.name)


def _map(
    table: Table, context: ReportContext, panels: tuple[Panel, ...], words: str, **facts: object
) -> Block:
    """A map whose caption is called `words`."""
    return Block(_title(table.name), panels, table.name, caption(words, context, **facts))


def _balanced(table: Table, context: ReportContext) -> list[Block]:
    """In the layout of Table 2; accuracy stands there, and noise in the CSV only."""
    cells = table.rows.filter(NO_NOISE)
    panels = heat(cells, "target", "perturbation", "source", "balanced_accuracy")
    return [_map(table, context, panels, "balanced")]


def _conditions(table: Table, context: ReportContext) -> list[Block]:
    """Unknown is said, not left out."""
    words = {True: "yes", False: "no", None: UNKNOWN}
    columns = [
        *(
            pl.Series(name, [words[value] for value in table.rows[name]])
            for name in ("same_architecture", "same_pretraining")
        ),
        pl.Series(
            "shared_training",
            [
                UNKNOWN if each is None else f"{100 * each:.0f}\u00a0%"
                for each in table.rows["shared_training"]
            ],
        ),
    ]
    return [_plain(Table.of(table.name, table.rows.with_columns(columns), context.unit), context)]


def _ranks(table: Table, context: ReportContext) -> list[Block]:
    """Ranks as one column, "1" or "2 to 3"; the scores stand in Table 1, with their intervals."""
    low, high = (pl.col(f"rank_{end}").cast(pl.String) for end in ("low", "high"))
    rank = pl.when(low == high).then(low).otherwise(low + " to " + high)
    rows = table.rows.select("model", rank.alias("rank"), "share_first", "above_majority")
    return [_plain(Table.of(table.name, rows, context.unit), context)]


def _by_target(row: str, table: Table, context: ReportContext) -> list[Block]:
    """A map of what breaks, and a table per target; rounded images stand in the CSV only."""
    attacked = table.rows.filter(NO_NOISE)
    clean = pl.col("score").filter(pl.col("perturbation") == "clean").mean()
    attack = pl.col("score").filter(pl.col("perturbation") != "clean").mean()
    order = attacked.group_by(row, maintain_order=True).agg(lost=clean - attack)
    falling = attacked.join(order, on=row, maintain_order="left").sort(
        "lost", descending=True, nulls_last=True, maintain_order=True
    )
    stored = table.where(AS_STORED).by("target")
    kept = pl.concat(falling.filter(target=target) for target in stored)
    panels = heat(kept, row, "target", "perturbation", bounded=False)
    return [
        _map(table, context, panels, f"{table.name}_map"),
        *(
            Block(
                f"{_title(table.name)} of {target}",
                _told(each, context, target).crossed(row, "perturbation"),
                table.name,
            )
            for target, each in stored.items()
        ),
    ]


def _selftests(table: Table, context: ReportContext) -> list[Block]:
    """A row per attack and source, a column per check; what was seen stands in the CSV."""
    words = {True: "passed", False: "failed", None: None}
    rows = table.rows.with_columns(
        pl.Series("passed", [words[each] for each in table.rows["passed"]], pl.String)
    )
    wide = rows.pivot("check", index=["perturbation", "source", "source_seed"], values="passed")
    images, part = rows["n_images"].max(), rows["cases"].item(0)
    return [_plain(Table.of(table.name, wide, context.unit), context, images=images, part=part)]


def _success(table: Table, context: ReportContext) -> list[Block]:
    """Who was fooled, as a map; then who was fooled and by what change, as two tables."""
    roles = {"transfer": "surrogates", "whitebox": "the judged networks (white-box)"}
    rows = table.rows.with_columns(pl.col("role").replace(roles))
    fooled = heat(rows, "perturbation", "role", "source", "fooled", bounded=False)
    changes = replace(table, caption=caption("changes", context)).filled()
    keys = ("perturbation", "source", "role")
    measured = [each.name for each in changes.columns if each.name in CHANGES]
    return [
        _map(table, context, fooled, "success_map"),
        _plain(table.without(*CHANGES, "l2_median"), context),
        Block(_title("changes"), changes.select(*keys, *measured), table.name),
    ]


def _subgroups(table: Table, context: ReportContext) -> list[Block]:
    """A map of all attributes, and a table of each."""
    panels = heat(table.rows, "group", "attribute", "model", "adversarial", bounded=False)
    return [
        _map(table, context, panels, "subgroups_map"),
        *(
            _plain(each, context, f"By {attribute}", attribute)
            for attribute, each in table.by("attribute").items()
        ),
    ]


def _false_positives(table: Table, context: ReportContext) -> list[Block]:
    """Measures by conditions; nothing where there is no place for a false positive."""
    if all(table.rows[name].null_count() == table.rows.height for name in PAINTED):
        return []
    counts = table.rows.row(0, named=True)
    told = _told(
        table,
        context,
        "",
        volume=counts["unit"],
        absent=f"{shown(counts['n_absent'])} here",
        empty=f"{shown(counts['n_empty'])} of {shown(counts['n_cases'])}",
    )
    names = [each.name for each in told.columns if each.name in PAINTED]
    return [Block(_title(table.name), told.crossed("model", "condition", values=names), table.name)]


def _structure_overview(table: Table, context: ReportContext) -> list[Block]:
    """Structures by measures, clean and attacked beside each other; a table per target."""
    blocks = []
    for target, each in table.by("target").items():
        attack = each.rows["perturbation"].item(-1)
        told = _told(each, context, target, attack=attack, **_lengths(table))
        crossed = told.crossed("structure", "perturbation", values=MEASURES)
        blocks.append(Block(f"All measures of {target}", crossed, table.name))
    return blocks


def _surfaces(table: Table, context: ReportContext) -> list[Block]:
    """The unit and the tolerance, which all rows share, stand in the caption."""
    panels = heat(table.rows.filter(NO_NOISE), "target", "", "perturbation", "nsd")
    lengths = _lengths(table)
    return [
        _map(table, context, panels, "surfaces_map", **lengths),
        _plain(table.without("tolerance", "unit"), context, **lengths),
    ]


def _structure_surfaces(table: Table, context: ReportContext) -> list[Block]:
    """Structures by perturbations, a table per target; HD95 stands in the CSV."""
    return [
        Block(
            f"NSD of the structures of {target}",
            _told(each, context, target, **_lengths(table)).crossed(
                "structure", "perturbation", values=["nsd"]
            ),
            table.name,
        )
        for target, each in table.by("target").items()
    ]


def _lengths(table: Table) -> dict[str, str]:
    unit, tolerance = table.rows["unit"].item(0), table.rows["tolerance"].item(0)
    return {"length": unit, "tolerance": f"{tolerance:g}\u00a0{unit}"}


def _table1(table: Table, context: ReportContext) -> list[Block]:
    """Networks that no test ranks below another are marked."""
    marks = marks_of(context.tables.get("ranking"))
    text = caption("table1", context) + (SAID if marks else "")
    return [Block("Table 1", replace(table, caption=text), "table1", marks=marks)]


def marks_of(ranking: pl.DataFrame | None) -> dict[str, str]:
    """What is said of networks that no test ranks below another: "best" only of one that is alone."""
    if ranking is None or ranking.height < 2:
        return {}
    first = ranking.filter(pl.col("rank_low") == 1)["model"].to_list()
    if len(first) < 2:
        return dict.fromkeys(first, "best")
    return dict.fromkeys(first, "not distinguishable from the highest") | {first[0]: "highest score"}


def _table2(table: Table, context: ReportContext) -> list[Block]:
    """Attacks beyond the paper are marked; the caption says what the mark means where there is one."""
    names = {label: label + BEYOND for label in context.beyond_paper}
    rows = table.rows.with_columns(pl.col("perturbation").replace(names))
    block = _map(table, context, heat(rows, *table.layout), "table2")
    said = BEYOND_SAID if table.rows["perturbation"].is_in(list(names)).any() else ""
    return [block._replace(caption=block.caption + said)]


def _rounded(table: Table, context: ReportContext) -> list[Block]:
    panels = heat(table.rows, "model", "", "rounding", "adversarial")
    return [_map(table, context, panels, "rounded_map"), _plain(table, context)]


def _whitebox(table: Table, context: ReportContext) -> list[Block]:
    return [_map(table, context, heat(table.rows, "target", "", "perturbation"), "whitebox")]


def _chosen(change: Callable[[Table], Table], table: Table, context: ReportContext) -> list[Block]:
    """What is left of a table; the CSV has the rest."""
    left = change(table)
    return [_plain(left, context)] if left.rows.height else []


def _if(kept: bool, table: Table) -> Table:
    return table if kept else replace(table, rows=table.rows.clear())


LAYOUTS: Mapping[str, Callable[[Table, ReportContext], list[Block]]] = {
    "balanced": _balanced,
    "classes": partial(_by_target, "class"),
    "false_positives": _false_positives,
    "off_diagonal": partial(
        _chosen, lambda table: _if(table.rows["adversarial"].count() > 0, table.without("note"))
    ),
    "pairs": partial(_chosen, lambda table: table.select(*PAIRS)),
    "plane": partial(_chosen, lambda table: table.select("model", "clean", "adversarial", "on_front")),
    "quality": partial(_chosen, lambda table: table.where(NO_NOISE)),
    "ranking": _ranks,
    "rounded": _rounded,
    "seeds": partial(_chosen, lambda table: _if(table.rows["model"].is_duplicated().any(), table)),
    "selftests": _selftests,
    "structures": partial(_by_target, "structure"),
    "structure_overview": _structure_overview,
    "structure_surfaces": _structure_surfaces,
    "subgroups": _subgroups,
    "success": _success,
    "surfaces": _surfaces,
    "table1": _table1,
    "table2": _table2,
    "transfer_conditions": _conditions,
    "transfer_rate": partial(_chosen, lambda table: _if(table.rows["n_cases"].sum() > 0, table)),
    "whitebox": _whitebox,
    "worst_structures": partial(_chosen, lambda table: table.select(*WORST).where(AS_STORED)),
}
"""Tables that are not shown as they are."""
