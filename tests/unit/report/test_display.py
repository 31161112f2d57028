import polars as pl
import pytest

from medrobust.report.tables import Cell, cross_table, flattened, number, setting, shown_table, spread_table

CELLS = pl.DataFrame(
    {
        "target": ["a", "a", "b"],
        "perturbation": ["fgsm", "fgsm", "fgsm"],
        "source": ["a", "b", "b"],
        "score": [0.5, None, 0.25],
        "low": [0.4, None, None],
        "high": [0.6, None, None],
    }
)


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.71349, "score", "0.713"),
        (-0.5, "difference", "\u22120.500"),
        (17.72, "drop_points", "17.7"),
        (0.000069, "mse", "6.9e-05"),
        (0.0, "mse", "0.000"),
        (0.00006, "p_holm", "< 0.001"),
        (0.0421, "p", "0.042"),
        (3412000, "parameters", "3,412,000"),
        (2012, "year", "2012"),
        (True, "significant", "yes"),
        (None, "score", "\u2013"),
        (float("nan"), "score", "\u2013"),
        ("unet", "model", "unet"),
        ([0.5, 0.25], "scores", "0.500, 0.250"),
        (1234.5, "seconds", "1234"),
    ],
)
def test_numbers_in_words(value: object, name: str, text: str) -> None:
    assert number(value, name) == text


def test_bounds_become_the_interval_of_their_number() -> None:
    frame = pl.DataFrame(
        {"model": ["a"], "clean": [0.8], "clean_low": [0.7], "clean_high": [0.9], "n_patients": [7]}
    )
    table = shown_table(frame, "lesion")
    assert [column.name for column in table.columns] == ["network", "clean", "lesions"]
    assert [column.numeric for column in table.columns] == [False, True, True]
    assert table.rows == ((Cell("a"), Cell("0.800", "[0.700, 0.900]"), Cell("7")),)


def test_low_and_high_belong_to_the_column_before_them() -> None:
    table = shown_table(CELLS[:1], "patient")
    assert table.rows[0][-1] == Cell("0.500", "[0.400, 0.600]")


def test_columns_without_any_value_are_left_out() -> None:
    frame = pl.DataFrame({"model": ["a"], "share": [float("nan")], "why": [None]})
    assert [column.name for column in shown_table(frame, "patient").columns] == ["network"]


def test_cells_in_the_layout_of_the_paper() -> None:
    table = cross_table(CELLS)
    assert table.groups == (("fgsm", ("a", "b")),)
    dash = Cell("\u2013")
    assert table.rows == (("a", (Cell("0.500", "[0.400, 0.600]"), dash)), ("b", (dash, Cell("0.250"))))
    assert [head.opens_group for head, _ in table.headed(table.rows[0][1])] == [True, False]


def test_values_of_a_column_as_heads() -> None:
    table = spread_table(CELLS[:1], "target", "perturbation")
    assert [column.name for column in table.columns] == ["target", "fgsm"]
    assert table.rows == ((Cell("a"), Cell("0.500", "[0.400, 0.600]")),)


def test_what_has_an_interval_is_no_setting() -> None:
    measured = pl.DataFrame({"value": [7.856482], "value_low": [7.594779], "value_high": [8.125054]})
    assert shown_table(measured, "patient").rows[0][0] == Cell("7.856", "[7.595, 8.125]")
    assert shown_table(measured.select("value"), "patient").rows[0][0] == Cell("7.85648")


def test_settings_keep_their_digits_and_items_go_by_their_name() -> None:
    study = {
        "seed": 0,
        "models": [{"name": "unet", "width": 16}, {"width": 8}],
        "eps": 4 / 255,
        "sizes": [1, 2],
        "x": None,
    }
    assert flattened(study) == [
        ("seed", "0"),
        ("models.unet.name", "unet"),
        ("models.unet.width", "16"),
        ("models.1.width", "8"),
        ("eps", "0.0156863"),
        ("sizes", "1, 2"),
        ("x", "\u2013"),
    ]
    assert setting([]) == "none"


def test_large_means_are_written_out() -> None:
    assert number(12288.4, "l0") == "12,288"
    assert number(-12288.4, "l0") == "\u221212,288"
    assert number(1234.5, "l0") == "1234"
    assert number(43.757, "psnr") == "43.8"
