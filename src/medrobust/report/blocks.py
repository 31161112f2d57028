"""Which table is laid out how, and what stands above it: what its numbers are, and over how many patients."""

from typing import NamedTuple

import polars as pl

from medrobust.report.context import ReportContext
from medrobust.report.display import (
    CrossTable,
    ShownTable,
    capitalised,
    cross_table,
    shown_table,
    spread_table,
)

CAPTIONS = {
    "table1": "Table 1. {Score} of each network on clean images, on {noise}, and its mean over all attacks "
    "and sources. Drops are from clean to adversarial, paired: in points, and in % of clean. {basis}",
    "off_diagonal": "The adversarial score over sources of other architectures only; not on identical "
    "images for all networks. {basis}",
    "balanced": "Balanced accuracy: the mean over classes. {basis}",
    "seeds": "Each trained network alone. So few seeds show no variance and have no interval.",
    "ranking": "Ranks that the tests leave open, best network first. Share first: of resamples of the "
    "{units} in which the network comes first (not shown below 20 {units}).",
    "pairs": "Each pair of networks under attack: difference of the mean adversarial scores, first "
    "minus second, paired. p by sign flips of {unit} totals, adjusted after Holm. {basis}",
    "pairs_beside": "The same pairs by other measures: drop in points, sources of neither "
    "architecture, clean images (p equal: two one-sided tests), and {units} needed for 80\u00a0% power. "
    "{basis}",
    "table2": "Table 2. {Score} under each attack, target by source; framed is the target's own "
    "surrogate (same architecture, trained apart). {basis}",
    "architectures": "Differences of the mean adversarial score between architectures, first minus second: "
    "patients and seeds are resampled crossed, by percentiles. {basis}",
    "conditional": "Table 2 on the scans of which no attack dropped a case: conditional on what the attacks "
    "reached, not to be compared with Tables 1 and 2. {basis}",
    "other_sources": "Attacks from sources that only some targets face; they enter no average. {basis}",
    "transfer_rate": "Share of images fooled among those that the source and every target get right "
    "when clean.",
    "noise": "{Score} on {noise}; matched noise by the source of its attack. {basis}",
    "noise_control": "Each attack against its own matched noise: does it do more harm than noise that "
    "changes the images as much? Extra drop in points, paired; p by sign flips, adjusted after Holm. "
    "{basis}",
    "matching": "How well the noise has the SSIM of its attack (means over the support). Missed: "
    "images whose strength could not be found within the tolerance.",
    "whitebox": "{Score} when the attack is crafted on the judged network itself. {basis}",
    "structures": "{Score} of each structure of {of}, averaged over the sources that all networks "
    "face. {basis}",
    "success": "Measured once, on the images as stored: how far the attacks changed the images, and "
    "whether they fooled the network that they were crafted on.",
    "rounded": "Table 1 on attacked and noisy images rounded to the bits they would be saved with. {basis}",
    "embedding": "How far attack and noise move the images in the network's features (a ratio, "
    "geometric mean), and the share of an image's 10 nearest clean neighbours that have its class. "
    "{basis}",
}
PAIRS = (
    "first",
    "second",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "verdict",
    "better",
)
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
    if name == "structures":
        return [_structures(frame, target, context) for target in frame["target"].unique(maintain_order=True)]
    if name == "pairs":
        beside = frame.select("first", "second", pl.exclude(*PAIRS))
        frames = {"pairs": frame.select(PAIRS), "pairs_beside": beside}
        return [Block.plain(part, caption(key, context), context.unit) for key, part in frames.items()]
    if name == "ranking":
        frame = _ranks(frame)
    if name == "seeds" and not frame["model"].is_duplicated().any():
        return []
    if name == "whitebox":
        return [Block(caption(name, context), spread_table(frame, "target", "perturbation"))]
    if CELL_COLUMNS.issubset(frame.columns):
        return [Block(caption(name, context), cross_table(frame))]
    return [Block.plain(frame, caption(name, context), context.unit)]


def caption(name: str, context: ReportContext, of: str = "") -> str:
    """The caption of a table, or of its part about one network; an unknown table goes by its name."""
    return CAPTIONS.get(name, capitalised(name.replace("_", " ")) + ".").format(
        Score=capitalised(context.score),
        basis=f"In brackets: {100 * context.confidence:g}\u00a0% intervals over {context.units}.",
        noise="noise matched to the attacks" if context.matched_noise else "noise of fixed strength",
        unit=context.unit,
        units=context.units,
        of=of,
    )


def _ranks(ranking: pl.DataFrame) -> pl.DataFrame:
    """Ranks as one column, "1" or "2 to 3"; the scores stand in Table 1, with their intervals."""
    low, high = (pl.col(f"rank_{end}").cast(pl.String) for end in ("low", "high"))
    rank = pl.when(low == high).then(low).otherwise(low + " to " + high)
    return ranking.select("model", rank.alias("rank"), "share_first", "above_majority")


def _structures(frame: pl.DataFrame, target: str, context: ReportContext) -> Block:
    """Structures by perturbations of one target; rounded images stand in the CSV only."""
    rows = frame.filter(pl.col("target") == target, ~pl.col("perturbation").str.contains("~", literal=True))
    return Block(caption("structures", context, target), spread_table(rows, "structure", "perturbation"))
