import io
import json
from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import made_rows
from medrobust.analysis.export import all_tables, as_json, table_files
from medrobust.analysis.table import ABSENT, BELOW, Cell, Table, shown
from medrobust.analysis.verdict import verdict
from typesetting import flaws

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


def table(rows, name="made", **more):
    return Table.of(name, rows, **more)


def words(rows):
    return [[cell.words for cell in row] for row in table(rows).cells]


def test_numbers_stand_with_their_intervals_and_columns_have_headings():
    assert table(TABLE).heads == ["network", "clean", "drop in points", "MSE", "cases", "ranked"]
    assert words(TABLE) == [
        ["u_net", "0.713 [0.68, 0.74]", "6.9 [3.2, 10.5]", "0.00012", "40", "yes"],
        ["50%|x", "—", "0.0", "0.000", "40", "no"],
    ]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((0.7134, 0.68, 0.7449), "0.713 [0.68, 0.74]"),
        ((0.7134, None, None), "0.713"),
        ((None, None, None), ABSENT),
        ((-0.00001, -0.2, 0.2), "0.000 [-0.20, 0.20]"),
    ],
)
def test_numbers_with_intervals(estimate, text):
    names = ("clean", "clean_low", "clean_high")
    row = pl.DataFrame([estimate], schema=dict.fromkeys(names, pl.Float64), orient="row")
    assert words(row) == [[text]]


def test_p_values_have_three_decimals_down_to_the_smallest_that_these_show():
    p = pl.DataFrame({"p": [1.0, 0.0499, 0.0042, 0.001, 0.00099, 0.0, None]})
    assert shown(float("nan"), "p") == shown(None, "p") == ABSENT
    assert words(p) == [["1.000"], ["0.050"], ["0.004"], ["0.001"], ["< 0.001"], ["< 0.001"], [ABSENT]]


def test_bounds_without_a_value_are_columns_of_their_own():
    ranks = pl.DataFrame({"model": ["a"], "rank_low": [1], "rank_high": [2], "score": [0.5]})
    assert words(ranks) == [["a", "1", "2", "0.500"]]


def test_low_and_high_are_the_interval_of_the_column_before_them():
    rows = pl.DataFrame({"measure": ["ratio"], "value": [2.0], "low": [1.5], "high": [2.5], "n_cases": [3]})
    assert table(rows).heads == ["measure", "value", "cases"]
    assert words(rows) == [["ratio", "2.000 [1.50, 2.50]", "3"]]


def test_headings_speak_of_the_unit_of_the_study():
    rows = pl.DataFrame({"n_patients": [3], "sd_patients": [0.1]})
    assert table(rows, unit="lesion").heads == ["lesions", "SD between lesions"]


def test_html_has_intervals_marks_and_heads_of_rows():
    text = table(TABLE).to_html({"u_net": "best"})
    assert '<th scope="row">u_net <span class="mark">best</span></th>' in text
    assert (
        '<td data-head="clean" class="number">0.713 <span class="interval">[0.68, 0.74]</span></td>' in text
    )
    assert text.startswith('<table class="plain sortable">')
    minus = pl.DataFrame({"class": ["<b>"], "drop_points": [-1.5]})
    assert (
        '<th scope="row">&lt;b&gt;</th><td data-head="drop in points" class="number">\u22121.5</td>'
        in table(minus).to_html()
    )


def test_html_of_a_cross_table_has_two_lines_of_heads_and_knows_a_networks_own_surrogate():
    frame = all_tables(photos(), verdict(photos()))["table2"]
    text = frame.crossed("target", "perturbation", "source").to_html()
    assert '<th scope="colgroup" colspan="3" class="group group-head">fgsm</th>' in text
    assert text.count("own") == 6
    assert '<th scope="col" rowspan="2">target</th>' in text


def test_several_measures_stand_above_the_values_of_one_column():
    rows = pl.DataFrame(
        {"model": ["a", "a", "b"], "condition": ["clean", "attack", "clean"], "dice": [0.5, 0.25, 0.75]}
        | {"nsd": [None, None, None], "hd95": [1.0, 2.0, 3.0]},
        schema_overrides={"nsd": pl.Float64},
    )
    crossed = table(rows).crossed("model", "condition", values=("dice", "nsd", "hd95"))
    assert crossed.heads == (("Dice", "clean"), ("Dice", "attack"), ("HD95", "clean"), ("HD95", "attack"))
    assert crossed.cells["b"] == [Cell("0.750"), Cell(ABSENT), Cell("3.0"), Cell(ABSENT)]


def test_parts_and_columns_of_a_table():
    whole = table(TABLE)
    assert whole.select("model", "mse").heads == ["network", "MSE"]
    assert whole.without("clean").where(pl.col("model") == "u_net").rows.height == 1
    assert list(whole.by("model")) == ["u_net", "50%|x"]
    assert "network" not in whole.by("model")["u_net"].heads
    empty = table(TABLE.with_columns(mse=None)).filled()
    assert empty.heads[3] == "cases"
    assert empty.select("model", "mse").heads == ["network"]
    with pytest.raises(KeyError, match="has no columns modle"):
        empty.select("modle")


def test_markdown_escapes_what_would_break_the_table():
    lines = table(TABLE).to_markdown().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("| network | clean | drop in points |")
    assert lines[3].startswith("| 50%\\|x | — | 0.0 |")
    assert "&lt;script>" in table(pl.DataFrame({"class": ["<script>"]})).to_markdown()


def test_latex_escapes_what_would_not_compile():
    text = table(TABLE).to_latex()
    assert r"u\_net & 0.713 [0.68, 0.74] & 6.9 [3.2, 10.5]" in text
    assert r"50\%\textbar{}x" in text
    assert text.splitlines()[0] == r"% \usepackage{booktabs,graphicx}"
    assert text.splitlines()[2] == r"\begin{tabular}{lrrrrl}"
    assert r"network & clean & \shortstack[r]{drop\\in\\points} & MSE & cases & ranked" in text


def test_latex_prints_minus_signs_and_no_hyphens_for_them():
    rows = pl.DataFrame(
        {"model": ["u-net-2", "[x]"], "drop": [-0.5, 0.1], "drop_low": [-1.0, -0.2], "drop_high": [0.0, 0.3]}
    )
    lines = table(rows).to_latex().splitlines()
    assert lines[6] == r"u-net-2 & $-$0.500 [$-$1.00, 0.00] \\"
    assert lines[7].startswith("{}[x] & ")


def test_latex_of_table_2_has_sources_below_attacks():
    results = photos()
    frames = all_tables(results, verdict(results))
    lines = frames["table2"].to_latex().splitlines()
    assert lines[2] == r"\begin{tabular}{lcccccc}"
    assert lines[4:7] == [
        r" & \multicolumn{3}{c}{fgsm} & \multicolumn{3}{c}{deepfool} \\",
        r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}",
        r"target & a & b & c & a & b & c \\",
    ]
    assert lines[8].startswith("a & 0.667 [")


def test_latex_of_table_2_prints_attacks_below_each_other_that_are_too_many():
    attacks = tuple(made_rows.Attack(name) for name in ("w", "x", "y", "z"))
    results = made_rows.classification(lambda *_: True, {"p1": 2, "p2": 1}, attacks=attacks)
    first, second = all_tables(results, verdict(results))["table2"].to_latex().split(BELOW)
    assert [name in first for name in ("{w}", "{x}", "{y}", "{z}")] == [True, True, True, False]
    assert "{lccc}" in second
    assert r"\cmidrule(lr){2-4}" in second
    assert second.count("1.000") == 9


ODD = {"name": ["[a]", r"\end{x}", "50 % & <b>", '"c" ~ ^ # $ {', "*"], "value": [None, -0.5, 1e-5, 3.0, 1.0]}
WIDE = [pl.lit(0.123456).alias(f"another_number_{place}") for place in range(30)]


def filled(table):
    """A table with a row of made-up values where it has none."""
    rows = table.rows
    if rows.height:
        return table
    made = {pl.String: "a_b", pl.Boolean: True, pl.Int64: 12, pl.Float64: 0.1234}
    row = {name: made[kind] for name, kind in rows.schema.items()}
    return replace(table, rows=pl.DataFrame([row], schema=rows.schema))


@pytest.mark.slow
@pytest.mark.parametrize("study", [photos, brains])
def test_latex_reads_every_table_and_it_fits(study, tmp_path):
    results = study()
    tables = [filled(each) for each in all_tables(results, verdict(results)).values()]
    odd = pl.DataFrame(ODD)
    more = {"odd": odd, "long": pl.concat([odd] * 20), "wide": odd.select(pl.all(), *WIDE)}
    tables += [Table.of(name, rows) for name, rows in more.items()]
    texts = [content.decode() for name, content in table_files(tables).items() if name.endswith(".tex")]
    assert len(texts) == len(tables) > 30
    assert flaws(texts, tmp_path) == []


@pytest.mark.slow
def test_what_latex_does_not_read_is_found(tmp_path):
    bad = r"% \usepackage{booktabs}" + "\n" + r"\rule{20cm}{1pt}\par\rule{1pt}{30cm}\par\resizebox"
    found = " ".join(flaws([bad], tmp_path))
    assert "Overfull \\hbox" in found
    assert "Overfull \\vbox" in found
    assert "! Undefined control sequence" in found


def test_latex_breaks_what_is_too_wide_and_names_the_rows_again():
    numbers = {f"a_number_{place}": [0.123456] for place in range(20)}
    wide = pl.DataFrame({"model": ["u_net"], "source": ["x"]} | numbers)
    parts = table(wide).to_latex().split(BELOW)
    assert len(parts) == 2
    assert all(part.count("u\\_net & x & 0.123") == 1 for part in parts)
    heads = [rf"\shortstack[r]{{a\\number\\{place}}}" for place in range(20)]
    assert [sum(head in part for part in parts) for head in heads] == [1] * 20


def test_latex_of_more_rows_than_a_page_holds_may_break():
    short, long = (table(pl.DataFrame({"name": ["a"] * rows, "value": 0.5})).to_latex() for rows in (40, 41))
    assert r"\begin{tabular}{lr}" in short
    assert r"\begin{longtable}{lr}" in long
    assert long.splitlines()[0] == r"% \usepackage{booktabs,longtable}"


def test_sentences_wrap_in_latex():
    assert (
        r"\begin{tabular}{lp{0.3\linewidth}r}"
        in table(
            pl.DataFrame(
                {"kind": ["a"], "says": ["This is a whole sentence of more than 40 letters."], "n": [1]}
            )
        ).to_latex()
    )


def test_markdown_of_table_2_has_a_row_per_target_and_a_column_per_attack_and_source():
    results = photos()
    head, _, *lines = all_tables(results, verdict(results))["table2"].to_markdown().splitlines()
    names = [f"{attack} / {source}" for attack in ("fgsm", "deepfool") for source in "abc"]
    assert head == f"| {' | '.join(['target', *names])} |"
    assert [line[:11] for line in lines] == ["| a | 0.667", "| b | 0.667", "| c | 0.667"]


@pytest.mark.parametrize("study", [photos, brains])
def test_csv_files_hold_every_digit_of_every_table(study):
    results = study()
    frames = all_tables(results, verdict(results))
    files = table_files(frames.values())
    assert set(files) == {f"{name}.{end}" for name in frames for end in ("csv", "md", "tex")}
    for name in ("table1", "table2"):
        again = pl.read_csv(io.BytesIO(files[f"{name}.csv"]), schema=frames[name].rows.schema)
        assert_frame_equal(again, frames[name].rows, check_exact=True)


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
    rows = pl.DataFrame({"x": [1.0, float("nan"), float("inf"), None]})
    assert table(rows).to_json() == {
        "columns": ["x"],
        "rows": [{"x": 1.0}, {"x": None}, {"x": None}, {"x": None}],
        "undefined": {"x": 3},
    }
