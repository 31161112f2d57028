import io
import re
from collections.abc import Callable
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from skimage.color import rgb2lab

from medrobust.core import Task
from medrobust.data.scans.structures import STRUCTURES
from medrobust.report import style
from medrobust.report.examples import Examples, difference_scale, example_rows, examples_figure, in_plane
from medrobust.report.plots import (
    ATTACK,
    CLEAN,
    NOISE,
    Projection,
    Words,
    curve_plot,
    draw,
    ellipse,
    heat_map,
    ladder_plot,
    plane_plot,
    tsne_plot,
)
from medrobust.report.reading import ReportContext
from medrobust.report.style import COLOURS, coloured, luminance, structure_colours

MakeContext = Callable[[Task], ReportContext]
WORDS = Words("accuracy", "95 %", "patients")
SURROGATE = "the surrogate of net"


def dot_plot(table1: pl.DataFrame) -> Figure:
    return draw({"table1": table1, "table2": pl.DataFrame(schema=["perturbation"])}, WORDS, None)[
        "dotplot"
    ]().figure


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def lines_of(labels: tuple[str, ...]) -> pl.DataFrame:
    columns = ("clean", "noise", "adversarial", "drop_points")
    values = {
        f"{name}{end}": [0.5 + step]
        for name in columns
        for end, step in (("", 0), ("_low", -0.1), ("_high", 0.1))
    }
    return pl.DataFrame({"model": list(labels)} | values)


@pytest.fixture
def examples() -> Examples:
    clean = np.full((1, 3, 8, 8), 0.5, np.float32)
    noisy, dotted = clean + 0.25, clean.copy()
    dotted[0, :, 2, 3] = 1.0
    return Examples(
        target="net",
        source="net",
        classes=("nevus", "a lesion with a very long name"),
        colours=("#000000", "#ffffff"),
        columns=("clean", "gaussian@fgsm", "saliency_map"),
        case_ids=("photo 1",),
        images=np.stack([clean, noisy, dotted], axis=1),
        labels=np.array([0]),
        predictions=np.array([[0, 0, 1]]),
        probabilities=np.array([[0.9, 0.75, 0.6]]),
    )


@pytest.fixture
def volumes() -> Examples:
    labels = np.zeros((1, 5, 6, 7), np.int64)
    labels[0, 3, 2:4, 2:4] = 1
    labels[0, 3, 4, 2:4] = 2
    images = np.random.default_rng(0).random((1, 2, 1, 5, 6, 7))
    names = ("background", "left thalamus", "right thalamus", "brain stem")
    predictions = np.stack([labels, labels], axis=1)
    colours = structure_colours(names)
    return Examples("net", "net", names, colours, ("clean", "dag_a"), ("scan",), images, labels, predictions)


def curves_of(budgets: list[float], noise: bool = True) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"curve": curve, "target": target, "perturbation": curve, "budget": budget}
            | {"score": 0.8 - 20 * budget, "low": 0.7 - 20 * budget, "high": 0.9 - 20 * budget}
            | {"noise": 0.8 - budget if noise else None}
            for curve in ("pgd", "fgsm", "l2")
            for target in ("unet", "segnet")
            for budget in budgets
        ],
        schema_overrides={"noise": pl.Float64},
    )


class TestCurves:
    def test_a_panel_per_attack_with_a_line_and_a_band_per_network_and_noise_dashed(self) -> None:
        budgets = [0.0, 2 / 255, 0.02]
        figure = curve_plot(curves_of(budgets), score="Dice")
        panels = [axes for axes in figure.axes if axes.get_visible()]
        assert [axes.get_title() for axes in panels] == ["pgd", "fgsm", "l2"]
        for axes in panels:
            noise, attack = axes.lines[:2]
            assert attack.get_xydata() == pytest.approx(np.array([(b, 0.8 - 20 * b) for b in budgets]))
            assert noise.get_xydata() == pytest.approx(np.array([(b, 0.8 - b) for b in budgets]))
            assert (noise.is_dashed(), attack.is_dashed(), len(axes.collections)) == (True, False, 2)
            assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "2/255", "0.02"]
        assert {"matched noise", "unet", "segnet", "Dice", "budget"} <= set(words(figure))

    def test_without_noise_there_is_no_dashed_line_in_the_legend(self) -> None:
        assert "matched noise" not in words(curve_plot(curves_of([0.0, 0.1], noise=False), score="Dice"))

    @pytest.mark.parametrize(("budgets", "angle"), [([0.0, 0.5, 1.0], 0), ([0.0, 0.1, 1.0], 45)])
    def test_names_of_close_budgets_are_tilted(self, budgets: list[float], angle: int) -> None:
        axes = curve_plot(curves_of(budgets), score="Dice").axes[0]
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {angle}


class TestStyle:
    def test_files_are_the_same_bytes_every_time_and_hold_no_date(self, make_context: MakeContext) -> None:
        context = make_context(Task.SEGMENTATION)

        def files() -> tuple[bytes, bytes]:
            figure = heat_map(context.tables["table2"], score="Dice")
            return style.png(figure), style.svg(figure)

        first = files()
        assert first == files()
        assert not re.search(rb"dc:date|\d{4}-\d\d-\d\dT", first[1])
        assert not Image.open(io.BytesIO(first[0])).text

    def test_a_users_own_settings_change_nothing_and_stay(self, context: ReportContext) -> None:
        table = context.tables["table1"]
        plain = style.svg(dot_plot(table))
        with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "mine"}):
            assert style.svg(dot_plot(table)) == plain
            assert mpl.rcParams["font.size"] == 30
            assert mpl.rcParams["svg.hashsalt"] == "mine"

    def test_png_has_at_least_150_dots_per_inch(self, context: ReportContext) -> None:
        image = Image.open(io.BytesIO(style.png(dot_plot(context.tables["table1"]))))
        assert image.info["dpi"][0] >= 150


class TestDotPlot:
    def test_three_scores_of_every_network_with_intervals_and_the_drop(self) -> None:
        figure = dot_plot(lines_of(("unet",)))
        axes = figure.axes[0]
        markers = [line.get_xdata()[0] for line in axes.lines if line.get_marker() in {"o", "D"}]
        assert markers == [0.5, 0.5, 0.5]
        bars = [segment for bars in axes.collections for segment in bars.get_segments()]
        assert [bar[:, 0].round(3).tolist() for bar in bars] == [[0.4, 0.6]] * 3
        assert {"unet", "accuracy", "drop in points", "0.5\n[0.4, 0.6]"} <= set(words(figure))

    @pytest.mark.parametrize("nothing", [None, float("nan")])
    def test_undefined_numbers_are_not_drawn(self, nothing: float | None) -> None:
        gone = pl.lit(nothing, pl.Float64)
        table = lines_of(("unet",)).with_columns(
            gone.alias("noise"),
            gone.alias("clean_low"),
            gone.alias("clean_high"),
            gone.alias("drop_points_low"),
        )
        axes = dot_plot(table).axes[0]
        assert len([line for line in axes.lines if line.get_marker() in {"o", "D"}]) == 2
        assert len(axes.collections) == 1

    def test_scores_differ_by_more_than_colour(self) -> None:
        assert len({(series.marker, series.face == "white") for series in (CLEAN, NOISE, ATTACK)}) == 3


class TestControls:
    def test_each_attack_stands_beside_its_noise_with_the_extra_drop(self, context: ReportContext) -> None:
        figure = draw(context.tables, WORDS, None)["noise_control"]().figure
        assert {"matched noise", "attack", "10.2 [7.1, 13.3]\np = 0.002"} <= set(words(figure))
        (row,) = context.tables["noise_control"].iter_rows(named=True)
        assert {row["target"], row["perturbation"]} <= set(words(figure))
        markers = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() in {"o", "D"}]
        assert markers == [row["noise"], row["attacked"]]

    def test_pairs_stand_on_both_sides_of_zero_with_their_adjusted_p(self, context: ReportContext) -> None:
        figure = draw(context.tables, WORDS, None)["pairs"]().figure
        assert "0.196 [0.150, 0.242]\np < 0.001" in words(figure)
        assert "\u22120.018 [\u22120.060, 0.024]\np = 0.410" in words(figure)
        assert [0, 0] in [list(line.get_xdata()) for line in figure.axes[0].lines]

    def test_ranks_are_dots_whose_area_is_how_often_they_are_held(self, context: ReportContext) -> None:
        figure = draw(context.tables, WORDS, None)["rank_stability"]().figure
        assert [axes.get_title() for axes in figure.axes] == ["clean", "adversarial"]
        (dots,) = figure.axes[1].collections
        areas = dict(zip(map(tuple, dots.get_offsets().data), dots.get_sizes(), strict=True))
        assert areas[1, 0] / areas[2, 0] == pytest.approx(0.8 / 0.1)

    def test_certificates_begin_at_what_is_certain_and_attacks_at_the_smoothed_score(
        self, context: ReportContext
    ) -> None:
        figure = draw(context.tables, WORDS, None)["certificates"]().figure
        assert len([axes for axes in figure.axes if axes.get_visible()]) == 3
        drawn = [np.round(line.get_ydata(), 4).tolist() for line in figure.axes[0].lines]
        assert [0.7, 0.575, 0.45] in drawn
        assert [0.75, 0.6575, 0.595] in drawn

    def test_risks_have_a_panel_for_each_network_and_a_line_for_each_condition(
        self, context: ReportContext
    ) -> None:
        figure = draw(context.tables, WORDS, None)["risk_coverage"]().figure
        assert [axes.get_title() for axes in figure.axes] == context.tables["table1"]["model"].to_list()
        for axes in figure.axes:
            assert [line.get_ydata()[-1] for line in axes.lines] == [0.2, 0.4, 0.6]
        assert {"clean", "matched noise", "attack"} <= set(words(figure))

    def test_without_a_control_there_is_no_plot_of_it(self, context: ReportContext) -> None:
        empty = {**context.tables, "noise_control": context.tables["noise_control"].clear()}
        assert "noise_control" not in draw(empty, WORDS, None)


class TestHeatMap:
    def test_every_cell_shows_score_and_interval_in_the_papers_layout(self, context: ReportContext) -> None:
        table = context.tables["table2"]
        figure = heat_map(table, score="Dice")
        panels = [axes for axes in figure.axes if axes.get_title()]
        assert [axes.get_title() for axes in panels] == table["perturbation"].unique(
            maintain_order=True
        ).to_list()
        for row in table.iter_rows(named=True):
            assert f"{row['score']:.3f}" in words(figure)
            assert f"[{row['low']:.2f}, {row['high']:.2f}]" in words(figure)

    def test_the_diagonal_is_framed(self, context: ReportContext) -> None:
        figure = heat_map(context.tables["table2"], score="Dice")
        framed = [
            patch
            for patch in figure.findobj(Rectangle)
            if not patch.get_fill() and patch.get_linewidth() == 1.8
        ]
        assert sorted(patch.get_xy() for patch in framed) == sorted(
            [(i + 0.035, i + 0.045) for i in range(3)] * 3
        )

    def test_a_missing_cell_is_hatched(self, context: ReportContext) -> None:
        table = context.tables["table2"]
        hatched = [patch for patch in heat_map(table[1:], score="x").findobj(Rectangle) if patch.get_hatch()]
        assert len(hatched) == 1

    def test_darker_means_lower_also_in_grey(self) -> None:
        greys = [luminance(COLOURS(value)) for value in np.linspace(0, 1, 64)]
        assert (np.diff(greys) > 0).all()

    def test_many_sources_wrap_to_more_rows(self) -> None:
        names = [f"net{index}" for index in range(6)]
        cells = [
            {"target": "a", "perturbation": attack, "source": name, "score": 0.5, "low": 0.4, "high": 0.6}
            for attack in ("x", "y", "z")
            for name in names
        ]
        figure = heat_map(pl.DataFrame(cells), score="Dice")
        panels = [axes for axes in figure.axes if axes.get_title()]
        assert len({round(axes.get_position().y0, 2) for axes in panels}) == 2


class TestLadder:
    RUNGS = ("clean", "transferred, mean", "white box", "matched noise")

    def table(self) -> pl.DataFrame:
        return pl.DataFrame(
            [
                {"target": target, "rung": rung, "bound": "L∞ ≤ 2/255"}
                | {"score": score - shift, "low": score - shift - 0.1, "high": score - shift + 0.1}
                for target, shift in (("a", 0.0), ("b", 0.1))
                for rung, score in zip(self.RUNGS, (0.9, 0.6, 0.2, 0.8), strict=True)
                if (target, rung) != ("b", "white box")  # it has no gradient
            ]
        )

    def test_lines_join_the_rungs_that_share_the_budget(self) -> None:
        (axes,) = ladder_plot(self.table(), score="Dice").axes
        joined = [line for line in axes.lines if line.get_linestyle() == "-"]
        assert [line.get_ydata().tolist() for line in joined] == [[0.9, 0.6, 0.2], [0.8, 0.5]]
        lone = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert [line.get_ydata()[0] for line in lone] == pytest.approx([0.8, 0.7])
        assert min(line.get_xdata()[0] for line in lone) > max(line.get_xdata()[-1] for line in joined)
        names = [tick.get_text() for tick in axes.get_xticklabels()]
        assert names == ["clean", "transferred,\nmean", "white\nbox", "matched\nnoise"]

    def test_its_caption_says_what_stands_apart(self) -> None:
        tables = {"table1": lines_of(("a",)), "table2": pl.DataFrame(schema=["perturbation"])}
        drawn = draw(tables | {"threats": self.table()}, WORDS, None)["threats"]()
        assert "within L∞ ≤ 2/255" in drawn.caption
        assert "does not share the budget" in drawn.caption
        together = self.table().filter(pl.col("rung") != "matched noise")
        assert "hollow" not in draw(tables | {"threats": together}, WORDS, None)["threats"]().caption


class TestTsne:
    def test_panels_share_their_limits_and_their_clean_points(self) -> None:
        points = pl.DataFrame(
            {
                "label": [0, 1, 0, 1, 0, 1],
                "perturbation": ["clean", "clean", "n@f", "n@f", "f", "f"],
                "x": [0.0, 1.0, 0.1, 1.1, 9.0, 1.0],
                "y": [0.0, 1.0, 0.1, 1.1, 0.0, -3.0],
            }
        )
        left, right = tsne_plot(Projection(points, "net", "f", "n@f", ("nevus", "melanoma"))).axes
        assert left.get_xlim() == right.get_xlim()
        assert left.get_ylim() == right.get_ylim()
        clean = [[line.get_xydata().tolist() for line in axes.lines[:2]] for axes in (left, right)]
        assert clean[0] == clean[1] == [[[0, 0]], [[1, 1]]]
        assert left.lines[2].get_markerfacecolor() == "none"
        assert right.lines[2].get_marker() == "P"
        assert (left.get_title(), right.get_title()) == ("clean and n@f", "clean and f")


class TestExamples:
    def test_factor_stretches_the_largest_change_to_half_the_grey_range(self) -> None:
        assert difference_scale(np.array([[[0.02, -0.0123]]])) == 25.0
        assert difference_scale(np.zeros((3, 2, 2))) == 0.0

    def test_classification_says_class_probability_and_factor(self, examples: Examples) -> None:
        said = words(examples_figure(examples, SURROGATE))
        assert {"✓ nevus, 0.90", "✓ nevus, 0.75", "× 2", "× 1", "photo 1\ntruth:\nnevus"} <= set(said)  # noqa: RUF001
        assert "✗ a lesion with a ver…, 0.60" in said
        assert "gaussian\nmatched to fgsm" in said

    def test_few_changed_pixels_are_ringed_where_they_are(self, examples: Examples) -> None:
        large = np.repeat(np.repeat(examples.images, 2, -1), 2, -2)  # 4 of 256 pixels: too many for rings
        few = examples.images.copy()
        assert not [
            line
            for axes in examples_figure(replace(examples, images=large), SURROGATE).axes
            for line in axes.lines
        ]
        wide = np.pad(few, [(0, 0)] * 3 + [(0, 8)] * 2, mode="edge")
        rings = [
            line
            for axes in examples_figure(replace(examples, images=wide), SURROGATE).axes
            for line in axes.lines
        ]
        assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in rings] == [([3], [2])]

    def test_an_unchanged_image_says_so(self, examples: Examples) -> None:
        same = np.repeat(examples.images[:, :1], 3, axis=1)
        assert words(examples_figure(replace(examples, images=same), SURROGATE)).count("no change") == 2

    def test_volumes_show_the_plane_with_the_most_foreground(self, volumes: Examples) -> None:
        thick = replace(volumes, spacing=(4.0, 2.0, 1.0))
        flat = in_plane(volumes)
        assert flat.images.shape == (1, 2, 1, 6, 7)
        assert (flat.images[0, 0] == volumes.images[0, 0, :, 3]).all()
        assert (flat.labels[0] == volumes.labels[0, 3]).all()
        assert flat.predictions.shape == (1, 2, 6, 7)
        assert [axes.get_aspect() for axes in examples_figure(thick, SURROGATE).axes if axes.images] == 6 * [
            2
        ]
        (row,) = example_rows(thick)
        assert row.aspect == 7 / (6 * 2)
        photo = replace(volumes, labels=np.array([1]), predictions=np.array([[1, 1]]))
        assert (in_plane(photo).images[0, 1] == volumes.images[0, 1, :, 2]).all()

    def test_segmentation_shows_truth_maps_and_a_legend_of_what_is_seen(self, volumes: Examples) -> None:
        figure = examples_figure(volumes, SURROGATE)
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert legend == ["thalamus"]
        assert {"truth", "As net sees them; attacks crafted on the surrogate of net"} <= set(words(figure))
        shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
        truth = coloured(volumes.labels[0, 3], volumes.colours)
        assert sum(image.shape == truth.shape and np.allclose(image, truth) for image in shown) == 3


class TestRows:
    def test_a_page_has_every_image_with_its_factor_and_what_is_predicted(self, examples: Examples) -> None:
        (row,) = example_rows(examples)
        assert (row.name, row.target, row.truth, row.text) == ("photo 1", "net", None, "nevus")
        assert [shot.name for shot in row.shots] == ["clean", "gaussian@fgsm", "saliency_map"]
        assert [(shot.change is None, shot.factor) for shot in row.shots] == [
            (True, 0.0),
            (False, 2.0),
            (False, 1.0),
        ]
        assert [(shot.text[:11], shot.right) for shot in row.shots] == [
            ("nevus, 0.90", True),
            ("nevus, 0.75", True),
            ("a lesion wi", False),
        ]

    def test_segmentation_has_label_maps_and_no_words(self, volumes: Examples) -> None:
        (row,) = example_rows(volumes)
        assert row.truth is not None
        assert all(shot.answer == row.truth and not shot.text for shot in row.shots)


def test_sides_share_a_hue_and_all_structures_can_be_told_apart() -> None:
    colours = coloured(np.arange(len(STRUCTURES)), structure_colours(STRUCTURES))
    assert (colours[0] == 0).all()
    left, right = (colours[STRUCTURES.index(f"{side} thalamus")] for side in ("left", "right"))
    np.testing.assert_allclose(right / left, right[0] / left[0], rtol=0.02)
    assert (right < left).all()
    lab = rgb2lab(colours)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert apart[~np.eye(len(lab), dtype=bool)].min() > 15


class TestColoursOfTheData:
    CLASSES = ("background", "left thalamus", "right thalamus", "lesion")
    CHOSEN = structure_colours(CLASSES)

    def test_they_are_taken_where_they_tell_classes_apart(self) -> None:
        given = ((1, 2, 3), (200, 0, 0), (0, 0, 255), (0, 128, 0))
        assert structure_colours(self.CLASSES, given) == ("#000000", "#c80000", "#0000ff", "#008000")
        assert structure_colours(self.CLASSES, (None, *given[1:]))[1:] == ("#c80000", "#0000ff", "#008000")

    def test_sides_of_one_colour_are_told_apart(self) -> None:
        given = (None, (200, 0, 0), (200, 0, 0), (0, 128, 0))
        assert structure_colours(self.CLASSES, given) == ("#000000", "#c80000", "#7c0000", "#008000")

    @pytest.mark.parametrize("last", [None, (200, 9, 9), (9, 9, 9)], ids=["none", "as another", "black"])
    def test_others_are_chosen_here(self, last: tuple[int, int, int] | None) -> None:
        given = (None, (200, 0, 0), (0, 0, 255), last)
        assert structure_colours(self.CLASSES, given) == self.CHOSEN
        assert structure_colours(self.CLASSES) == self.CHOSEN

    def test_the_legend_shows_them(self, volumes: Examples) -> None:
        own = ("#000000", "#c80000", "#0000ff", "#008000")
        figure = examples_figure(replace(volumes, colours=own), SURROGATE)
        assert to_hex(figure.legends[0].get_patches()[0].get_facecolor()) == "#c80000"


PLACES = pl.DataFrame(
    {
        "model": ["a", "b", "c", "d"],
        "clean": [0.9, 0.8, 0.7, 0.6],
        "adversarial": [0.5, 0.6, 0.4, None],
        "var_clean": [4e-4, 1e-4, 1e-4, None],
        "var_adversarial": [1e-4, 4e-4, 1e-4, None],
        "covariance": [1e-4, 0.0, -1e-4, None],
        "scale": [9.0, 9.0, None, None],
        "on_front": [True, True, False, False],
    }
)


def test_the_edge_of_a_region_lies_at_its_distance():
    row = PLACES.row(0, named=True)
    inverse = np.linalg.inv([[4e-4, 1e-4], [1e-4, 1e-4]])
    offsets = ellipse(row) - np.array([[0.9], [0.5]])
    np.testing.assert_allclose(np.einsum("ip,ij,jp->p", offsets, inverse, offsets), 9.0)


def test_the_plane_draws_what_is_defined_and_a_stair_along_the_front():
    figure = plane_plot(PLACES, score="Dice")
    (axes,) = figure.axes
    assert {"Dice, clean", "Dice, mean under attack"} <= set(words(figure))
    names = [line.get_label() for line in axes.get_lines()]
    assert names == ["a", "b", "c", "Pareto front"]
    assert len(axes.patches) == 2, "no region without a scale"
    stair = axes.get_lines()[-1]
    assert stair.get_xdata().tolist() == [0.8, 0.9]
    assert 0 <= axes.get_xlim()[0] <= axes.get_xlim()[1] <= 1


def test_one_network_on_the_front_needs_no_stair():
    alone = PLACES.with_columns(on_front=pl.Series([True, False, False, False]))
    assert "Pareto front" not in words(plane_plot(alone, score="Dice"))
