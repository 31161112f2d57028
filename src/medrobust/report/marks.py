"""Which networks of a table may come first, as far as the tests tell."""

from dataclasses import replace

import polars as pl

from medrobust.report.display import ShownTable

SAID = " The marks go by the tests of the adversarial score."


def marked(table: ShownTable, ranking: pl.DataFrame | None) -> tuple[ShownTable, str]:
    """The table with a mark on each network, by the name in its first column, that may come first.

    Returns:
        The table, and a sentence for its caption; empty where nothing is marked.
    """
    marks = marks_of(ranking)
    rows = tuple((first._replace(mark=marks.get(first.text, "")), *others) for first, *others in table.rows)
    return replace(table, rows=rows), SAID if marks else ""


def marks_of(ranking: pl.DataFrame | None) -> dict[str, str]:
    """What is said of networks that no test ranks below another: "best" only of one that is alone."""
    if ranking is None or ranking.height < 2:
        return {}
    first = ranking.filter(pl.col("rank_low") == 1)["model"].to_list()
    if len(first) < 2:
        return dict.fromkeys(first, "best")
    return dict.fromkeys(first, "not distinguishable from the highest") | {first[0]: "highest score"}
