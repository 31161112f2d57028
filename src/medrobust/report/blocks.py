"""Which table is laid out how, and what stands above it: what its numbers are, and over how many patients."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import polars as pl

from medrobust.report.captions import caption
from medrobust.report.context import ReportContext
from medrobust.report.display import (
    CrossTable,
    ShownTable,
    cross_table,
    measures_table,
    number,
    shown_table,
    spread_table,
)
from medrobust.report.marks import marked

PAIRS = (
    *("first", "second", "difference", "difference_low", "difference_high"),
    *("p", "p_holm", "verdict", "better"),
)
CHANGES = ("ssim", "ssim_image", "psnr", "mse", "l0", "l2_mean", "linf", "steps")
"""Columns of `success` that measure the images."""
MEASURES = ("dice", "nsd", "hd95", "volume_error")
"""Columns of `structure_overview` that are shown."""
WORST = (*("target", "perturbation", "structure", "score", "low", "high"), *("n_patients", "volume_error"))
"""Columns of `worst_structures` that are shown."""
PAINTED = ("absent_volume", "empty_painted", "empty_volume")
"""Columns of `false_positives` that are shown."""
UNKNOWN = "unknown"
BEYOND = " †"
BEYOND_SAID = " † beyond the paper: in no average or verdict of a study that has attacks of the paper."
_AS_STORED = ~pl.col("perturbation").str.contains("~", literal=True)
"""Leaves out images that were rounded."""

CELL_COLUMNS = {"target", "perturbation", "source", "score", "low", "high"}


class Block(NamedTuple):
    """A table and its caption."""

    caption: str
    table: ShownTable | CrossTable

    @property
    def crossed(self) -> bool:
        """Whether it has two lines of heads."""
        return isinstance(self.table, CrossTable)

    @staticmethod
    def plain(frame: pl.DataFrame, caption: str, unit: str) -> "Block":
        """Any frame, as it is."""
        return Block(caption, shown_table(frame, unit))


def blocks(name: str, context: ReportContext) -> list[Block]:
    """A table of the report, in as many pieces as it is read in."""
    frame = context.tables[name]
    if name in LAYOUTS:
        return LAYOUTS[name](frame, context)
    if CELL_COLUMNS.issubset(frame.columns):
        return [Block(caption(name, context), cross_table(frame))]
    return [_plain(name, frame, context)]


def _plain(name: str, frame: pl.DataFrame, context: ReportContext) -> Block:
    return Block.plain(frame, caption(name, context), context.unit)


def _balanced(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """In the layout of Table 2; accuracy stands there, and noise in the CSV only."""
    cells = frame.filter(~pl.col("perturbation").str.contains("@", literal=True)).select(
        "target",
        "perturbation",
        "source",
        score="balanced_accuracy",
        low="balanced_accuracy_low",
        high="balanced_accuracy_high",
    )
    return [Block(caption("balanced", context), cross_table(cells))]


def _conditions(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Unknown is said, not left out."""
    words = {True: "yes", False: "no", None: UNKNOWN}
    columns = [
        *(
            pl.Series(name, [words[value] for value in frame[name]])
            for name in ("same_architecture", "same_pretraining")
        ),
        pl.Series(
            "shared_training",
            [UNKNOWN if share is None else f"{100 * share:.0f}\u00a0%" for share in frame["shared_training"]],
        ),
    ]
    return [_plain("transfer_conditions", frame.with_columns(columns), context)]


def _pairs(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """The primary endpoint apart from everything beside it; no column for sources that there are none of."""
    beside = frame.select("first", "second", pl.exclude(*PAIRS))
    if frame["n_neutral_sources"].sum() == 0:
        beside = beside.drop("n_neutral_sources")
    return [_plain("pairs", frame.select(PAIRS), context), _plain("pairs_beside", beside, context)]


def _plane(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """What the picture shows; the covariances behind its regions stand in the CSV."""
    return [_plain("plane", frame.select("model", "clean", "adversarial", "on_front"), context)]


def _quality(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Clean images and attacks; noise stands in the CSV."""
    shown = frame.filter(~pl.col("perturbation").str.contains("@", literal=True))
    return [_plain("quality", shown, context)]


def _ranks(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Ranks as one column, "1" or "2 to 3"; the scores stand in Table 1, with their intervals."""
    low, high = (pl.col(f"rank_{end}").cast(pl.String) for end in ("low", "high"))
    rank = pl.when(low == high).then(low).otherwise(low + " to " + high)
    return [
        _plain("ranking", frame.select("model", rank.alias("rank"), "share_first", "above_majority"), context)
    ]


def _seeds(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Nothing where each network was trained once."""
    return [_plain("seeds", frame, context)] if frame["model"].is_duplicated().any() else []


def _by_target(name: str, column: str, frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Structures or classes by perturbations, a table per target; rounded images stand in the CSV only."""
    shown = frame.filter(_AS_STORED)
    return [
        Block(caption(name, context, target), spread_table(rows, column, "perturbation"))
        for (target,), rows in shown.group_by("target", maintain_order=True)
    ]


def _selftests(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """A row per attack and source, a column per check; what was seen stands in the CSV."""
    words = {True: "passed", False: "failed", None: None}
    table = frame.with_columns(pl.Series("passed", [words[passed] for passed in frame["passed"]], pl.String))
    wide = table.pivot("check", index=["perturbation", "source", "source_seed"], values="passed")
    text = caption("selftests", context, images=frame["n_images"].max(), part=frame["cases"].item(0))
    return [Block.plain(wide, text, context.unit)]


def _success(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Who was fooled, and by what change; together they would be too wide to be read."""
    return [
        _plain("success", frame.select(pl.exclude(*CHANGES, "l2_median")), context),
        _plain("changes", frame.select("perturbation", "source", "role", *CHANGES), context),
    ]


def _subgroups(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """A table per attribute."""
    return [
        Block(caption("subgroups", context, attribute), shown_table(rows.drop("attribute"), context.unit))
        for (attribute,), rows in frame.group_by("attribute", maintain_order=True)
    ]


def _false_positives(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Measures by conditions, beside Table 1; nothing where there is no place for a false positive."""
    if all(frame[name].null_count() == frame.height for name in PAINTED):
        return []
    counts = frame.row(0, named=True)
    text = caption(
        "false_positives",
        context,
        volume=counts["unit"],
        absent=f"{number(counts['n_absent'])} here",
        empty=f"{number(counts['n_empty'])} of {number(counts['n_cases'])}",
    )
    return [Block(text, measures_table(frame, "model", "condition", PAINTED))]


def _structure_overview(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Structures by measures, clean and attacked beside each other; a table per target."""
    shown = []
    for (target,), rows in frame.group_by("target", maintain_order=True):
        attack = rows["perturbation"].item(-1)
        text = caption("structure_overview", context, target, attack=attack, **_lengths(frame))
        shown.append(Block(text, measures_table(rows, "structure", "perturbation", MEASURES)))
    return shown


def _surfaces(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """The unit and the tolerance, which all rows share, stand in the caption."""
    text = caption("surfaces", context, **_lengths(frame))
    return [Block(text, shown_table(frame.drop("tolerance", "unit"), context.unit))]


def _structure_surfaces(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Structures by perturbations, a table per target; HD95 stands in the CSV."""
    scores = frame.with_columns(score="nsd", low="nsd_low", high="nsd_high")
    return [
        Block(
            caption("structure_surfaces", context, target, **_lengths(frame)),
            spread_table(rows, "structure", "perturbation"),
        )
        for (target,), rows in scores.group_by("target", maintain_order=True)
    ]


def _lengths(frame: pl.DataFrame) -> dict[str, str]:
    unit, tolerance = frame["unit"].item(0), frame["tolerance"].item(0)
    return {"length": unit, "tolerance": f"{tolerance:g}\u00a0{unit}"}


def _table1(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Networks that no test ranks below another are marked."""
    table, said = marked(shown_table(frame, context.unit), context.tables.get("ranking"))
    return [Block(caption("table1", context) + said, table)]


def _table2(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Attacks beyond the paper are marked; the caption says what the mark means where there is one."""
    names = {label: label + BEYOND for label in context.beyond_paper}
    marked = frame.with_columns(pl.col("perturbation").replace(names))
    said = BEYOND_SAID if frame["perturbation"].is_in(list(names)).any() else ""
    return [Block(caption("table2", context) + said, cross_table(marked))]


def _transfer_rate(frame: pl.DataFrame, context: ReportContext) -> list[Block]:
    """Nothing where no case is right for the source and all targets."""
    return [_plain("transfer_rate", frame, context)] if frame["n_cases"].sum() else []


LAYOUTS: Mapping[str, Callable[[pl.DataFrame, ReportContext], list[Block]]] = {
    "balanced": _balanced,
    "false_positives": _false_positives,
    "off_diagonal": lambda frame, context: (
        [_plain("off_diagonal", frame.drop("note"), context)] if frame["adversarial"].count() else []
    ),
    "pairs": _pairs,
    "plane": _plane,
    "quality": _quality,
    "ranking": _ranks,
    "seeds": _seeds,
    "selftests": _selftests,
    "classes": partial(_by_target, "classes", "class"),
    "structures": partial(_by_target, "structures", "structure"),
    "structure_overview": _structure_overview,
    "structure_surfaces": _structure_surfaces,
    "subgroups": _subgroups,
    "success": _success,
    "surfaces": _surfaces,
    "transfer_conditions": _conditions,
    "transfer_rate": _transfer_rate,
    "table1": _table1,
    "table2": _table2,
    "worst_structures": lambda frame, context: [
        _plain("worst_structures", frame.select(*WORST).filter(_AS_STORED), context)
    ],
    "whitebox": lambda frame, context: [
        Block(caption("whitebox", context), spread_table(frame, "target", "perturbation"))
    ],
}
"""Tables that are not shown as they are."""
