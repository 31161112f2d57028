import io
import json
import shutil
import subprocess
from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import made_rows
from medrobust.analysis.export import all_tables, as_json, table_as_json, table_files
from medrobust.analysis.format import (
    paper_latex,
    paper_layout,
    readable,
    to_latex,
    to_markdown,
    with_interval,
)
from medrobust.analysis.verdict import verdict

TABLE = pl.DataFrame(
    {
        "model": ["u_net", "50%|x"],
        "clean": [0.7128, None],
        "clean_low": [0.681, None],
        "clean_high": [0.744, None],
        "drop_points": [6.897, -0.01],
        "drop_points_low": [3.21, None],
        "drop_points_high": [10.5, None],
        "mse": [0.00012, 0.0],
        "n_cases": [40, 40],
        "ranked": [True, False],
    }
)


def photos():
    return made_rows.classification(lambda cell, patient, image: image == 0, {"p1": 2, "p2": 1})


def brains():
    return made_rows.segmentation(lambda cell, scan, structure: (10, 8, 4), {"p1": ["s1"], "p2": ["s2"]})


def test_readable_joins_numbers_with_their_intervals():
    assert readable(TABLE).rows() == [
        ("u_net", "0.713 [0.68, 0.74]", "6.9 [3.2, 10.5]", "0.00012", "40", "yes"),
        ("50%|x", "—", "0.0", "0.000", "40", "no"),
    ]


@pytest.mark.parametrize(
    ("estimate", "digits", "text"),
    [
        ((0.7134, 0.68, 0.7449), 3, "0.713 [0.68, 0.74]"),
        ((0.7134, None, None), 3, "0.713"),
        ((None, None, None), 3, "—"),
        ((-0.00001, -0.2, 0.2), 3, "0.000 [-0.20, 0.20]"),
    ],
)
def test_numbers_with_intervals(estimate, digits, text):
    assert with_interval(*estimate, digits=digits) == text


def test_bounds_without_a_value_are_columns_of_their_own():
    ranks = pl.DataFrame({"model": ["a"], "rank_low": [1], "rank_high": [2], "score": [0.5]})
    assert readable(ranks).rows() == [("a", "1", "2", "0.500")]


def test_markdown_escapes_what_would_break_the_table():
    lines = to_markdown(TABLE).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("| model | clean | drop\\_points |")
    assert lines[3].startswith("| 50%\\|x | — | 0.0 |")
    assert "&lt;script>" in to_markdown(pl.DataFrame({"class": ["<script>"]}))


def test_latex_escapes_what_would_not_compile():
    text = to_latex(TABLE)
    assert r"u\_net & 0.713 [0.68, 0.74] & 6.9 [3.2, 10.5]" in text
    assert r"50\%\textbar{}x" in text
    assert text.count(r"\\") == 3
    assert text.splitlines()[:2] == [r"% \usepackage{booktabs}", r"\begin{tabular}{lrrrrl}"]
    assert "model & clean & drop points & mse & n cases & ranked" in text


def test_latex_prints_minus_signs_and_no_hyphens_for_them():
    table = pl.DataFrame(
        {"model": ["u-net-2", "[x]"], "drop": [-0.5, 0.1], "drop_low": [-1.0, -0.2], "drop_high": [0.0, 0.3]}
    )
    lines = to_latex(table).splitlines()
    assert lines[5] == r"u-net-2 & $-$0.500 [$-$1.00, 0.00] \\"
    assert lines[6].startswith("{}[x] & ")


def test_latex_of_table_2_has_sources_below_attacks():
    results = photos()
    frames = all_tables(results, verdict(results))
    lines = paper_latex(frames["table2"]).splitlines()
    assert lines[1] == r"\begin{tabular}{lcccccc}"
    assert lines[3:6] == [
        r" & \multicolumn{3}{c}{fgsm} & \multicolumn{3}{c}{deepfool} \\",
        r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}",
        r"target & a & b & c & a & b & c \\",
    ]
    assert lines[7].startswith("a & 0.667 [")


ODD = {"name": ["[a]", r"\end{x}", "50 % & <b>", '"c" ~ ^ # $ {', "*"], "value": [None, -0.5, 1e-5, 3.0, 1.0]}


def test_every_table_compiles(tmp_path):
    """LaTeX itself reads them, with booktabs and nothing else."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no LaTeX: install pdflatex with booktabs (Debian: texlive-latex-recommended)")
    studies = [(results, all_tables(results, verdict(results))) for results in (photos(), brains())]
    texts = [
        content.decode()
        for _, frames in studies
        for name, content in table_files(frames | {"odd": pl.DataFrame(ODD)}).items()
        if name.endswith(".tex")
    ]
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text("\n\n".join([head, *texts, r"\end{document}"]), encoding="utf-8")
    done = subprocess.run(
        [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(texts) > 40
    assert "Missing character" not in (tmp_path / "all.log").read_text(encoding="latin-1")


def test_paper_layout_has_a_row_per_target_and_a_column_per_attack_and_source():
    results = photos()
    frames = all_tables(results, verdict(results))
    layout = paper_layout(frames["table2"])
    names = [f"{attack} / {source}" for attack in ("fgsm", "deepfool") for source in "abc"]
    assert layout.columns == ["target", *names]
    assert layout["target"].to_list() == ["a", "b", "c"]
    assert layout["fgsm / a"][0].startswith("0.667 [")


@pytest.mark.parametrize("study", [photos, brains])
def test_csv_files_hold_every_digit_of_every_table(study):
    results = study()
    frames = all_tables(results, verdict(results))
    files = table_files(frames)
    assert set(files) == {f"{name}.{end}" for name in frames for end in ("csv", "md", "tex")}
    for name in ("table1", "table2"):
        again = pl.read_csv(io.BytesIO(files[f"{name}.csv"]), schema=frames[name].schema)
        assert_frame_equal(again, frames[name], check_exact=True)


@pytest.mark.parametrize("study", [photos, brains])
def test_json_holds_every_table_and_counts_what_is_undefined(study):
    results = study()
    results = replace(results.restricted(~pl.col("perturbation").str.contains("@")), noise=())
    conclusion = verdict(results)
    frames = all_tables(results, conclusion)
    document = json.loads(json.dumps(as_json(results, frames, conclusion), allow_nan=False))
    assert set(document["tables"]) == set(frames)
    table1 = document["tables"]["table1"]
    assert table1["rows"][0]["noise"] is None
    assert table1["undefined"] == {"noise": 3, "noise_low": 3, "noise_high": 3}
    assert document["verdict"]["outcome"] == conclusion.outcome
    assert document["n_patients"] == 2
    assert document["warnings"] == []
    assert document["settings"]["resamples"] == 500


def test_numbers_that_json_does_not_have_become_null():
    table = pl.DataFrame({"x": [1.0, float("nan"), float("inf"), None]})
    assert table_as_json(table) == {
        "columns": ["x"],
        "rows": [{"x": 1.0}, {"x": None}, {"x": None}, {"x": None}],
        "undefined": {"x": 3},
    }
