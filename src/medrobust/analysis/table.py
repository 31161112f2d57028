r"""A table is one thing: its columns are described once, and every format is written from that.

    table = Table.of("table1", frame)             columns are recognised by their names
    table.to_csv(), .to_markdown(), .to_latex(), .to_html()
    table.crossed("target", "perturbation", "source").to_html()      the layout of the paper's Table 2

CSV and JSON hold every digit under the columns' names; the others are for people: headings in words, and each
number with its interval, as in `0.713 [0.68, 0.74]`.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import accumulate, groupby, takewhile
from typing import Any, Literal, NamedTuple

import polars as pl

from medrobust.stats.intervals import Estimate

Line = dict[str, Any]
"""A row, by the names of its columns."""

ABSENT = "—"
"""Shown where a number is undefined."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name in CSV and JSON.
        heading: Its heading in the other formats; if empty, the name in words. "patient" is replaced by the
            unit of the study.
        type: Type of its values.
        digits: Decimals of a number; "p" for p values, "setting" for what was set rather than measured.
        unit: Unit of measurement, for the heading.
        interval: Names of the columns that hold the bounds of its interval.
    """

    name: str
    heading: str = ""
    type: Any = pl.Float64
    digits: int | Literal["p", "setting"] = 3
    unit: str = ""
    interval: tuple[str, str] | None = None

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers, which are aligned to the right."""
        return bool(self.type.is_numeric())

    def titled(self, unit: str = "patient") -> str:
        """The heading in a study whose intervals are over `unit`."""
        words = self.name.removeprefix("n_").split("_")
        heading = self.heading or " ".join(SPELLINGS.get(word, word) for word in words)
        return heading.replace("patient", unit) + (f" ({self.unit})" if self.unit else "")

    def cell(self, row: Mapping[str, Any]) -> "Cell":
        """The cell of this column in a row."""
        value = row[self.name]
        bounds = [row[name] for name in self.interval or ()]
        if value is None or not bounds or None in bounds:
            return Cell(shown(value, self.digits, rounds_to_zero=bool(bounds)))
        digits = self.digits if isinstance(self.digits, int) else 3
        return Cell(shown(value, digits, rounds_to_zero=True), interval_text(bounds[0], bounds[1], digits))


class Cell(NamedTuple):
    """The content of a cell: a word or number, its interval, and a remark on it, which only HTML shows."""

    text: str
    interval: str = ""
    mark: str = ""

    @property
    def words(self) -> str:
        """Text and interval in one."""
        return f"{self.text} {self.interval}" if self.interval else self.text


def shown(value: Any, digits: int | str = 3, *, rounds_to_zero: bool = False) -> str:
    """A value as people read it, with a dash where it is undefined.

    Args:
        value: A number, a word, a truth value, or a list of these.
        digits: Decimals, "p" or "setting".
        rounds_to_zero: Show tiny numbers as 0, as those with an interval are; else with 3 significant digits.

    >>> shown(0.71349), shown(None), shown(-0.0001, 2), shown(0.00012), shown(3072.0), shown(True)
    ('0.713', '—', '-0.0001', '0.00012', '3,072', 'yes')
    >>> shown(0.0004, "p"), shown(0.5 / 255, "setting")
    ('< 0.001', '0.5/255')
    """
    if value is None or value != value:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item, digits) for item in value) or ABSENT
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if not isinstance(value, float):
        return str(value)
    if digits == "p":
        return f"{value:.3f}" if value >= 0.001 else "< 0.001"
    if digits == "setting":
        return min(f"{value:.4g}", f"{255 * value:.4g}/255", key=len)
    assert isinstance(digits, int)
    if abs(value) >= 100 and digits:
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if 0 < abs(value) < 10**-digits and not rounds_to_zero:
        return f"{value:.3g}"
    return decimal(value, digits)


def decimal(value: float, digits: int) -> str:
    """A number with so many decimals, never "-0.000"."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def interval_text(low: float, high: float, digits: int = 3) -> str:
    """An interval with one decimal less than its number, or as many as it takes to tell its bounds apart.

    >>> interval_text(0.681, 0.7449), interval_text(0.7996, 0.8003), interval_text(3.21, 10.5, 1)
    ('[0.68, 0.74]', '[0.7996, 0.8003]', '[3.2, 10.5]')
    """
    fewer = max(digits - 1, 1)
    while low < high and decimal(low, fewer) == decimal(high, fewer):
        fewer += 1
    return f"[{decimal(low, fewer)}, {decimal(high, fewer)}]"


WORDS = {
    *("model", "target", "perturbation", "source", "role", "structure", "finding", "class", "label", "run"),
    *(
        "rounding",
        "attribute",
        "group",
        "note",
        "sources",
        "measure",
        "condition",
        "setting",
        "worst_of",
        "parameter",
        "curve",
        "patient_id",
    ),
    *("check", "seen", "cases", "severity", "kind", "what_to_do", "unit", "first", "second", "verdict"),
    *(
        "better",
        "endpoint",
        "family",
        "worst_family",
        "preset",
        "baseline",
        "search",
        "norm",
        "rung",
        "bound",
        "trained_on",
    ),
    *("twin", "defence", "method"),
}
FLAGS = {
    *("same_architecture", "same_pretraining", "above_majority", "on_front"),
    *("passed", "equally_good", "drops_agree"),
}
COUNTS = {
    "rank_low",
    "rank_high",
    "place",
    "source_seed",
    "target_seed",
    "fold",
    "patients_needed",
    "patients_for_claim",
    "epoch",
}
"""As is every column that begins with `n_`; all others hold real numbers."""
P_VALUES = {"p", "p_holm", "p_equal", "p_equal_holm"}
SETTINGS = {"budget", "value", "steps", "size", "sigma", "training_sigma", "radius"}
SPELLINGS = {
    **{word: word.upper() for word in ("ssim", "mse", "l0", "psnr", "nsd", "hd95", "f1", "auroc", "aurc")},
    "linf": "L∞",
    "dice": "Dice",
    "iou": "IoU",
}
"""Of single words in the names of columns."""
HEADINGS: Mapping[str, str] = {
    "model": "network",
    "source": "crafted on",
    "drop_points": "drop in points",
    "drop_percent": "drop in %",
    "ssim_image": "SSIM, whole image",
    "p_holm": "p, Holm",
    "p_equal_holm": "p equal, Holm",
    "share_first": "fraction first",
    "false_claim": "false claim",
    "clean_false_claim": "clean, false claim",
    "place": "rank",
    "extra_points": "more under attack, in points",
    "failure_auroc": "AUROC for mistakes",
    "failure_auroc_difference": "AUROC for mistakes, difference",
    "aurc_difference": "AURC, difference",
    "risk": "risk of all answers",
    "risk_90": "risk at coverage 0.9",
    "risk_80": "risk at coverage 0.8",
    "n_undefined": "undefined",
    "tau": "Kendall's tau",
    "same_order": "same order, fraction",
    "patients_for_claim": "patients for this difference",
    "drop_difference": "drop, difference in points",
    "neutral_difference": "sources of neither, difference",
    "n_neutral_sources": "sources of neither",
    "clean_difference": "clean, difference",
    "extra_drop_points": "extra drop in points",
    "worst_of": "worst of",
    "ssim_noise": "SSIM of noise",
    "ssim_attack": "SSIM of attack",
    "l2_mean": "L2, mean",
    "l2_median": "L2, median",
    "source_seed": "seed",
    "same_pretraining": "same pre-training",
    "brier": "Brier score",
    "absent_volume": "absent structures, volume",
    "empty_painted": "empty cases, fraction painted",
    "empty_volume": "empty cases, volume",
    "false_positive_pixels": "false positives",
    "false_positive_ml": "false positives",
    "sd_patients": "SD between patients",
    "sd_targets": "SD between trainings",
    "sd_surrogates": "SD between surrogates",
    "n_targets": "trainings",
    "n_surrogates": "surrogates",
    "n_inactive": "nothing to attack",
    "n_missed": "unreachable",
    "n_unreached": "unreachable",
    "be": "BE",
    "relative_be": "relative BE",
    "outside_percent": "outside in %",
    "beyond_random_points": "beyond random, in points",
    "beyond_average_points": "beyond average, in points",
    "worst": "worst, score",
    "median_size": "size, median",
    "mean_size": "size, mean",
    "largest_size": "largest size",
    "fooled_by_any": "fooled by any",
    "trained_on": "in the training of",
    "gain_points": "gain in points",
    "one_step": "score under FGSM",
    "several_steps": "score under PGD",
    "target_seed": "seed",
    "missed_points": "missed, in points",
    "radius": "radius, L2",
    "training_sigma": "sigma in training",
    "network": "network itself",
    "n_contradicted": "contradicted",
    "n_by_chance": "chance allows",
}
"""Headings other than the name in words."""
UNITS = {"psnr": "dB", "false_positive_ml": "ml", "false_positive_pixels": "pixels"}


def column(name: str, kind: Any = None) -> Column:
    """The column of this name; `kind` is its type, if the name does not tell."""
    if kind is None:
        kind = pl.String if name in WORDS else pl.Boolean if name in FLAGS else pl.Float64
        kind = pl.Int64 if name in COUNTS or name.startswith("n_") else kind
    digits: int | Literal["p", "setting"] = 3
    if name in P_VALUES:
        digits = "p"
    elif name in SETTINGS or name.endswith("_size"):
        digits = "setting"
    elif re.search(r"points|percent|hd95$|psnr|drop_difference", name):
        digits = 1
    return Column(name, HEADINGS.get(name, ""), kind, digits, UNITS.get(name, ""))


def bounded(*names: str) -> tuple[str, ...]:
    """Names of numbers and their bounds: `x, x_low, x_high`."""
    return tuple(f"{name}{end}" for name in names for end in ("", "_low", "_high"))


def frame(rows: Iterable[Mapping[str, object]], *names: str) -> pl.DataFrame:
    """A frame with these columns, of the types that their names imply; undefined numbers are null."""
    schema = {name: column(name).type for name in names}
    return pl.DataFrame([dict(row) for row in rows], schema=schema).fill_nan(None)


def with_bounds(estimates: Mapping[str, Estimate]) -> Line:
    """Estimates as the columns `name`, `name_low`, `name_high`; a score's are `low` and `high`."""
    line: Line = {}
    for name, estimate in estimates.items():
        ends = ("score", "low", "high") if name == "score" else bounded(name)
        line |= dict(zip(ends, estimate, strict=True))
    return line


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with what people must know to read them.

    Attributes:
        name: Name of its files.
        rows: The numbers; undefined ones are null.
        columns: The columns shown, in this order; bounds of intervals are part of their numbers.
        caption: Text above or below it.
        unit: What intervals are over, e.g. "patient".
        layout: Empty, or the arguments of `crossed` for its Markdown and LaTeX.
    """

    name: str
    rows: pl.DataFrame
    columns: tuple[Column, ...]
    caption: str = ""
    unit: str = "patient"
    layout: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, rows: pl.DataFrame, unit: str = "patient", caption: str = "") -> "Table":
        """A table whose columns are recognised by name: `x_low` and `x_high` are the interval of `x`.

        `low` and `high` are that of the column before them. Scores of cells are crossed, as in the paper's
        Table 2.
        """
        names, columns, bounds = rows.columns, [], set[str]()
        for place, each in enumerate(names):
            pair = (f"{each}_low", f"{each}_high")
            if names[place + 1 : place + 3] == ["low", "high"]:
                pair = ("low", "high")
            found = set(pair) <= set(names)
            columns.append(replace(column(each, rows.schema[each]), interval=pair if found else None))
            bounds |= set(pair) if found else set()
        shown = tuple(each for each in columns if each.name not in bounds)
        cells = ["target", "perturbation", "source", "score", "low", "high"]
        return cls(name, rows, shown, caption, unit, tuple(cells[:3]) if names[:6] == cells else ())

    def select(self, *names: str) -> "Table":
        """The table with these columns, in this order, except those that `filled` left out."""
        unknown = set(names) - set(self.rows.columns)
        if unknown:
            raise KeyError(f"table {self.name} has no columns {', '.join(sorted(unknown))}")
        known = {each.name: each for each in self.columns}
        return replace(self, columns=tuple(known[name] for name in names if name in known))

    def without(self, *names: str) -> "Table":
        """The table without these columns."""
        return replace(self, columns=tuple(each for each in self.columns if each.name not in names))

    def filled(self) -> "Table":
        """The table with the columns that hold any value."""
        rows = self.rows.fill_nan(None)
        empty = [each.name for each in self.columns if rows[each.name].null_count() == rows.height]
        return self.without(*empty)

    def where(self, *rows: pl.Expr) -> "Table":
        """The table with some of its rows."""
        return replace(self, rows=self.rows.filter(*rows))

    def by(self, name: str) -> dict[str, "Table"]:
        """A table, without this column, for each of its values."""
        parts = self.rows.partition_by(name, as_dict=True, maintain_order=True)
        return {str(key): replace(self.without(name), rows=rows) for (key,), rows in parts.items()}

    @property
    def heads(self) -> list[str]:
        """Headings of its columns."""
        return [each.titled(self.unit) for each in self.columns]

    @property
    def cells(self) -> list[list[Cell]]:
        """The cells of each row."""
        rows = self.rows.fill_nan(None).iter_rows(named=True)
        return [[each.cell(row) for each in self.columns] for row in rows]

    def crossed(self, row: str, *heads: str, values: Sequence[str] = ("score",)) -> "CrossTable":
        """One column's values as rows; those of one or two others, or several numbers, as columns.

        Args:
            row: The column whose values head the rows.
            heads: The columns whose values head the columns, the upper line of heads first.
            values: The columns shown in the cells. If there are several, each is a head above the values of a
                single `heads`; those without any value are left out.
        """
        rows = self.rows.fill_nan(None)
        known = {each.name: each for each in self.columns}
        several = len(values) > 1
        shown = [known[name] for name in values if not several or rows[name].null_count() < rows.height]
        found: dict[tuple[str, str, str], Cell] = {}
        for each in shown:
            for line in rows.iter_rows(named=True):
                above = [each.titled(self.unit)] if several else [""] if len(heads) == 1 else []
                above += [line[name] for name in heads]
                found[line[row], above[0], above[1]] = each.cell(line)
        groups = dict.fromkeys(head for _, head, _ in found)
        places = sorted(dict.fromkeys(key[1:] for key in found), key=lambda key: list(groups).index(key[0]))
        cells = {
            name: [found.get((name, *place), Cell(ABSENT)) for place in places]
            for name in rows[row].unique(maintain_order=True)
        }
        return CrossTable(self.caption, known[row].titled(self.unit), tuple(places), cells)

    def to_csv(self) -> str:
        """All its rows with every digit, under the names of the columns."""
        return self.rows.write_csv()

    def to_json(self) -> dict[str, Any]:
        """Its rows, and the number of undefined values of each column that has any; JSON has no NaN."""
        rows = [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in row.items()
            }
            for row in self.rows.iter_rows(named=True)
        ]
        undefined = {name: sum(row[name] is None for row in rows) for name in self.rows.columns}
        missing = {name: count for name, count in undefined.items() if count}
        return {"columns": self.rows.columns, "rows": rows, "undefined": missing}

    def to_markdown(self) -> str:
        """For a README; Table 2 has a column per attack and source."""
        if self.layout:
            return self.crossed(*self.layout).to_markdown()
        return _markdown(self.heads, [[cell.words for cell in row] for row in self.cells])

    def to_latex(self) -> str:
        """For a paper; needs the packages that its first line names.

        A table too wide for a line is split into parts below each other, each with the words in front; one
        with more rows than a page holds may break anywhere. Sentences wrap.
        """
        if self.layout:
            return self.crossed(*self.layout).to_latex()
        text = [[cell.words for cell in row] for row in self.cells]
        kinds, tops, widths = [], [], []
        for place, (column, head) in enumerate(zip(self.columns, self.heads, strict=True)):
            longest = max((len(row[place]) for row in text), default=0)
            # Heads of numbers are wider than the numbers, so their words stand below each other.
            words = head.split() if column.is_numeric else [head]
            top = [_latex(word) for word in words]
            tops.append(rf"\shortstack[r]{{{END.join(top)}}}" if len(top) > 1 else top[0])
            kinds.append("r" if column.is_numeric else r"p{0.3\linewidth}" if longest > SENTENCE else "l")
            widths.append(GAP + min(max([longest, *map(len, words)]), SENTENCE))
        keys = len(list(takewhile(lambda column: not column.is_numeric, self.columns)))
        most = (LONG_LINE if len(text) > PAGE else LINE) - sum(widths[:keys])
        parts = []
        for places in _packed(widths[keys:], most):
            chosen = [*range(keys), *(keys + place for place in places)]
            top_line = f"{' & '.join(tops[place] for place in chosen)} {END}"
            rows = [[row[place] for place in chosen] for row in text]
            parts.append(_tabular("".join(kinds[place] for place in chosen), [top_line], rows))
        return BELOW.join(parts)

    def to_html(self, marks: Mapping[str, str] | None = None) -> str:
        """A `<table>`; the first column heads the rows, and `marks` are remarks on it by its text."""
        classes = ["number" if each.is_numeric else "" for each in self.columns]
        top = "".join(
            f'<th scope="col"{_class(name)}>{escape(head)}</th>'
            for head, name in zip(self.heads, classes, strict=True)
        )
        body = []
        for first, *others in self.cells:
            cells = [f'<th scope="row">{_html(first._replace(mark=(marks or {}).get(first.text, "")))}</th>']
            for head, cell, name in zip(self.heads[1:], others, classes[1:], strict=True):
                wraps = "long" if len(cell.text) > SENTENCE else ""
                cells.append(f'<td data-head="{escape(head)}"{_class(name or wraps)}>{_html(cell)}</td>')
            body.append("".join(cells))
        return _html_table("plain", self.caption, [top], body)


@dataclass(frozen=True)
class CrossTable:
    """Two columns of a table crossed, as the paper prints its Table 2: sources below attacks.

    Attributes:
        caption: Text above or below it.
        corner: The head of the rows.
        heads: Group and name of each column; the group is empty if there is a single line of heads.
        cells: The cells of each row, by its name.
    """

    caption: str
    corner: str
    heads: tuple[tuple[str, str], ...]
    cells: Mapping[str, Sequence[Cell]]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The upper heads, and the number of columns that each spans."""
        return [(name, len(list(heads))) for name, heads in groupby(self.heads, key=lambda head: head[0])]

    def to_markdown(self) -> str:
        """A column per pair of heads, `fgsm / unet`."""
        heads = [" / ".join(name for name in head if name) for head in self.heads]
        return _markdown(
            [self.corner, *heads],
            [[name, *(cell.words for cell in cells)] for name, cells in self.cells.items()],
        )

    def to_latex(self) -> str:
        """Needs booktabs and graphicx. Groups that do not fit on a line continue below."""
        widths = [width for _, width in self.groups]
        places = [range(end - width, end) for end, width in zip(accumulate(widths), widths, strict=True)]
        parts = []
        for line in _packed(widths, CROSSED):
            chosen = [place for each in line for place in places[each]]
            shown = replace(self, heads=tuple(self.heads[place] for place in chosen))
            rows = [[name, *(cells[place].words for place in chosen)] for name, cells in self.cells.items()]
            parts.append(_tabular("l" + "c" * len(chosen), shown._latex_head(), rows))
        return BELOW.join(parts)

    def _latex_head(self) -> list[str]:
        names = _line([self.corner, *(name for _, name in self.heads)])
        if not any(group for group, _ in self.heads):
            return [names]
        above, rules, place = [""], [], 2
        for group, width in self.groups:
            above.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex(group)}}}")
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
            place += width
        return [f"{' & '.join(above)} {END}", " ".join(rules), names]

    def to_html(self) -> str:
        """A `<table>`; a cell whose column is named like its row (a network's own surrogate) is `own`."""
        grouped = any(group for group, _ in self.heads)
        starts = {0, *accumulate(width for _, width in self.groups)} if grouped else set[int]()
        lines = []
        if grouped:
            above = "".join(
                f'<th scope="colgroup" colspan="{width}" class="group group-head">{escape(group)}</th>'
                for group, width in self.groups
            )
            lines.append(f'<th scope="col" rowspan="2">{escape(self.corner)}</th>{above}')
        corner = "" if grouped else f'<th scope="col">{escape(self.corner)}</th>'
        groups = [" group" if place in starts else "" for place in range(len(self.heads))]
        names = (
            f'<th scope="col" class="source{opens}">{escape(name or ABSENT)}</th>'
            for opens, (_, name) in zip(groups, self.heads, strict=True)
        )
        lines.append(corner + "".join(names))
        body = []
        for row, cells in self.cells.items():
            shown = [f'<th scope="row">{escape(row)}</th>']
            for place, cell in enumerate(cells):
                own = " own" if grouped and self.heads[place][1] == row else ""
                head = escape(", ".join(name for name in self.heads[place] if name))
                shown.append(f'<td data-head="{head}" class="number{groups[place]}{own}">{_html(cell)}</td>')
            body.append("".join(shown))
        return _html_table("cross", self.caption, lines, body)


_MARKDOWN = str.maketrans({"|": r"\|", "~": r"\~", "_": r"\_", "*": r"\*", "<": "&lt;"})


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (heads, ["---"] * len(heads), *rows)
    return "".join(f"| {' | '.join(cell.translate(_MARKDOWN) for cell in line)} |\n" for line in lines)


_MINUS = re.compile(r"(?<![\w.)])-(?=\d)")
"""A minus sign, which HTML and LaTeX would show as a hyphen."""


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _html(cell: Cell) -> str:
    text, interval = (_MINUS.sub("\u2212", escape(each)) for each in (cell.text, cell.interval))
    text += f' <span class="interval">{interval}</span>' if interval else ""
    return text + (f' <span class="mark">{escape(cell.mark)}</span>' if cell.mark else "")


def _html_table(kind: str, caption: str, heads: Sequence[str], body: Sequence[str]) -> str:
    top, rows = ("".join(f"<tr>{line}</tr>\n" for line in lines) for lines in (heads, body))
    above = f"<caption><span>{escape(caption)}</span></caption>\n" if caption else ""
    sortable = " sortable" if len(body) > 1 else ""
    return (
        f'<table class="{kind}{sortable}">\n{above}<thead>{top}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n'
    )


PAGE = 40
"""Rows that fit on a page."""
LINE = 130
"""Characters and gaps that fit on a line, nearly at their full size."""
LONG_LINE = 160
"""The same in the small letters of tables that are longer than a page."""
CROSSED = 9
"""Columns of scores that fit on a line: as many as the paper's Table 2 has."""
SENTENCE = 40
"""Characters beyond which words wrap."""
GAP = 3
END = r"\\"
BELOW = "\\par\\medskip\\noindent\n"
_FITTED = (
    r"% \usepackage{booktabs,graphicx}",
    r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
)
_LONG = (
    r"% \usepackage{booktabs,longtable}",
    r"{\fontsize{6}{7}\selectfont\setlength{\tabcolsep}{2pt}%",
)
_CHARACTERS = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "|": r"\textbar{}",
        '"': "''",
        "∞": r"$\infty$",
    }
)


def _packed(widths: Sequence[int], most: int) -> list[list[int]]:
    """Places of what fits on each line, one list per line."""
    lines: list[list[int]] = [[]]
    for place, width in enumerate(widths):
        if lines[-1] and sum(widths[each] for each in lines[-1]) + width > most:
            lines.append([])
        lines[-1].append(place)
    return lines


def _tabular(columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    is_long = len(rows) > PAGE
    kind = "longtable" if is_long else "tabular"
    lines = [
        *(_LONG if is_long else _FITTED),
        rf"\begin{{{kind}}}{{{columns}}}",
        *(r"\toprule", *head, r"\midrule", *([r"\endhead"] if is_long else [])),
        *map(_line, rows),
        r"\bottomrule",
        rf"\end{{{kind}}}}}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(_latex, cells))} {END}"


def _latex(text: str) -> str:
    """Text that LaTeX prints as it is; braces keep a first bracket from being an option of the line above."""
    escaped = _MINUS.sub(r"$-$", text.translate(_CHARACTERS))
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped
