"""Tables in LaTeX that fit the page of a paper."""

import re
from collections.abc import Sequence
from itertools import groupby, takewhile

import polars as pl

from medrobust.analysis.format import crossed, readable

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
_CHARACTERS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    '"': "''",
}
_MINUS = re.compile(r"(?<![\w.)])-(?=\d)")
"""A minus sign, which LaTeX would print as a hyphen."""


def to_latex(table: pl.DataFrame) -> str:
    """A table with the numbers as text; needs the packages booktabs and graphicx, a long one longtable.

    What is too wide for a line is broken into parts below each other, with the names of the rows in each;
    what has more rows than a page holds may break anywhere. Sentences wrap.
    """
    text = readable(table)
    numeric = {name: table.schema[name].is_numeric() for name in text.columns}
    keys = list(takewhile(lambda name: not numeric[name], text.columns))
    others = text.columns[len(keys) :]
    widths = {name: _width(text[name], numeric[name]) for name in text.columns}
    most = (LONG_LINE if text.height > PAGE else LINE) - sum(widths[name] for name in keys)
    parts = []
    for places in _packed([widths[name] for name in others], most):
        names = [*keys, *(others[place] for place in places)]
        columns = "".join("r" if numeric[name] else _kind_of_text(text[name]) for name in names)
        heads = [_stacked(name) if numeric[name] else name.replace("_", " ") for name in names]
        parts.append(_tabular(columns, [f"{' & '.join(heads)} {END}"], text.select(names).rows()))
    return BELOW.join(parts)


def paper_latex(cells: pl.DataFrame) -> str:
    """Table 2 as the paper prints it: sources below perturbations; needs booktabs and graphicx.

    Perturbations that would not fit beside each other stand below each other.
    """
    heads, rows = crossed(cells)
    groups = [list(group) for _, group in groupby(range(len(heads)), key=lambda place: heads[place][0])]
    parts = []
    for line in _packed([len(group) for group in groups], CROSSED):
        places = [place for each in line for place in groups[each]]
        shown = [[target, *(scores[place] for place in places)] for target, *scores in rows]
        parts.append(_crossed_tabular([heads[place] for place in places], shown))
    return BELOW.join(parts)


def _crossed_tabular(heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    above, rules, place = [""], [], 2
    for perturbation, group in groupby(heads, key=lambda head: head[0]):
        width = len(list(group))
        above.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex(perturbation)}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    head = [
        f"{' & '.join(above)} {END}",
        " ".join(rules),
        _line(["target", *(source for _, source in heads)]),
    ]
    return _tabular("l" + "c" * len(heads), [line for line in head if line], rows)


def _packed(widths: Sequence[int], most: int) -> list[list[int]]:
    """Places of what fits on a line, for every line that is needed."""
    lines: list[list[int]] = [[]]
    for place, width in enumerate(widths):
        if lines[-1] and sum(widths[each] for each in lines[-1]) + width > most:
            lines.append([])
        lines[-1].append(place)
    return lines


def _width(cells: pl.Series, numeric: bool) -> int:
    """Characters of the widest cell and the gap beside it; what is longer than a sentence wraps."""
    words = cells.name.split("_") if numeric else [cells.name]
    return GAP + min(max(len(each) for each in (*words, *cells)), SENTENCE)


def _kind_of_text(cells: pl.Series) -> str:
    return r"p{0.3\linewidth}" if max(map(len, cells), default=0) > SENTENCE else "l"


def _stacked(name: str) -> str:
    """The head of numbers: its words below each other, since they are wider than the numbers."""
    words = name.split("_")
    return rf"\shortstack[r]{{{END.join(words)}}}" if len(words) > 1 else name


def _tabular(columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = [r"\toprule", *head, r"\midrule"]
    body = [*map(_line, rows), r"\bottomrule"]
    if len(rows) > PAGE:
        begin, end = rf"\begin{{longtable}}{{{columns}}}", r"\end{longtable}}"
        return _lines(*_LONG, begin, *head, r"\endhead", *body, end)
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}}"
    return _lines(*_FITTED, begin, *head, *body, end)


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(_latex, cells))} {END}"


def _latex(text: str) -> str:
    """Text that LaTeX prints as it is; braces keep a first bracket from being an option of the line above."""
    escaped = _MINUS.sub(r"$-$", "".join(_CHARACTERS.get(character, character) for character in text))
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped
