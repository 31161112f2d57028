"""What phantom lesions are made of: textures, marks, outlines, layers of pigment, the camera."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrobust.data.phantoms.lesion_drawing import (
    BLOOD,
    MELANIN,
    Form,
    Layers,
    Skin,
    Stroke,
    branches,
    curve,
    discs,
    draw_outline,
    fractal,
    grid,
    honeycomb,
    ripples,
    smoothstep,
    strokes,
)
from medrobust.data.phantoms.lesions import LOOKS, Circumstances, add_artefacts, photograph
from medrobust.rng import generator

N = 96


def rng(*key):
    return generator(0, "test", *key)


class TestTextures:
    @pytest.mark.parametrize("noise", [fractal, lambda g, n: ripples(g, n, 0.1)], ids=["fractal", "ripples"])
    def test_noise_is_standardised_float32(self, noise):
        values = noise(rng(), N)
        assert values.dtype == np.float32
        assert values.mean() == pytest.approx(0, abs=1e-5)
        assert values.std() == pytest.approx(1, abs=1e-4)

    def test_ripples_have_their_wavelength(self):
        power = np.abs(np.fft.fft2(ripples(rng(), N, 0.125))) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(N, 1 / N), np.fft.fftfreq(N, 1 / N)))
        assert np.average(frequency, weights=power) == pytest.approx(8, rel=0.1)

    def test_fractal_noise_is_rougher_with_a_smaller_hurst_exponent(self):
        roughness = [np.abs(np.diff(fractal(rng(), N, hurst=h))).mean() for h in (0.2, 0.5, 0.8)]
        assert roughness == sorted(roughness, reverse=True)

    def test_a_regular_honeycomb_repeats_after_its_pitch(self):
        lines = honeycomb(rng(), 192, 0.125, jitter=0.0)
        assert lines.min() == 0
        assert lines.max() == pytest.approx(1, abs=0.05)
        power = np.abs(np.fft.fft2(lines - lines.mean())) ** 2
        y, x = np.unravel_index(power.argmax(), power.shape)
        frequency = np.hypot(min(x, 192 - x), min(y, 192 - y))
        assert frequency == pytest.approx(2 / np.sqrt(3) / 0.125, rel=0.1)

    def test_smoothstep_rises_or_falls_between_its_limits(self):
        values = np.array([[-1, 0.25], [0.5, 2]], np.float32)
        assert smoothstep(values, 0.0, 1.0) == pytest.approx(np.array([[0, 0.15625], [0.5, 1]]))
        assert smoothstep(values, 1.0, 0.0) == pytest.approx(np.array([[1, 0.84375], [0.5, 0]]))


class TestMarks:
    def test_a_disc_has_its_place_and_area(self):
        disc = discs(N, np.array([[0.2, -0.1]]), np.array([0.15]))
        x, y = grid(N)
        assert disc.mean() == pytest.approx(np.pi * 0.15**2, rel=0.1)
        assert (disc * x).sum() / disc.sum() == pytest.approx(0.2, abs=0.01)
        assert (disc * y).sum() / disc.sum() == pytest.approx(-0.1, abs=0.01)

    def test_a_stroke_has_its_width(self):
        line = strokes(N, [Stroke(np.array([[-0.3, 0.0], [0.3, 0.0]]), 0.05)])
        assert line.mean() == pytest.approx(0.6 * 0.05, rel=0.15)

    def test_nothing_drawn_is_nothing(self):
        assert not discs(N, np.zeros((0, 2)), np.zeros(0)).any()
        assert not strokes(N, []).any()

    def test_a_curve_goes_from_start_to_end(self):
        path = curve(np.array([[0.0, 0.0]]), np.array([[0.5, 1.0]]), np.array([[1.0, 0.0]]), steps=3)
        assert path == pytest.approx(np.array([[0, 0], [0.5, 0.5], [1, 0]]))

    def test_vessels_double_and_thin_at_every_level(self):
        tree = branches(rng(), np.zeros((1, 2)), 0.0, 0.1, 0.02, levels=3)
        widths = sorted({stroke.width for stroke in tree}, reverse=True)
        assert len(tree) == 15
        assert widths == pytest.approx([0.02, 0.014, 0.0098, 0.00686])


class TestOutlines:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10_000), depth=st.floats(0.1, 0.85))
    def test_depth_tells_inside_from_outside(self, seed, depth):
        outline = draw_outline(generator(seed), N, Form((0.2, 0.3), 0.1, (0.005, 0.01)))
        for place, expected in ((depth, 1.0), (1.25, 0.0)):
            x, y = (
                np.rint((outline.at(np.linspace(-3, 3, 30), np.full(30, place)) + 0.5) * N - 0.5)
                .astype(int)
                .T
            )
            assert outline.inside[y, x].mean() == pytest.approx(expected, abs=0.1)

    def test_scattered_points_fill_the_ring_that_is_asked_for(self):
        outline = draw_outline(rng(), N, Form((0.3, 0.3), 0.0, (0.01, 0.01), (1.0, 1.0)))
        distance = np.linalg.norm(outline.scatter(rng(), 500, inner=0.5, outer=0.8) - outline.centre, axis=1)
        assert distance.min() == pytest.approx(0.15, abs=0.01)
        assert distance.max() == pytest.approx(0.24, abs=0.01)

    def test_a_softer_form_has_a_wider_border(self):
        widths = [
            np.mean((o.inside > 0.1) & (o.inside < 0.9))
            for o in (draw_outline(rng(), N, Form((0.3, 0.3), 0.1, (s, s))) for s in (0.01, 0.05, 0.1))
        ]
        assert widths == sorted(widths)


class TestLayers:
    def test_pigments_absorb_exponentially(self):
        layers = Layers(2)
        layers.melanin += 0.5
        layers.blood += 0.25
        layers.dark += 0.1
        expected = np.exp(-(0.5 * MELANIN + 0.25 * BLOOD + 0.1))
        assert layers.light()[:, 0, 0] == pytest.approx(expected, rel=1e-6)

    def test_an_opaque_cover_shows_its_colour_and_half_of_one_mixes(self):
        layers = Layers(2)
        layers.melanin += 9
        layers.cover(np.array([[1, 0.5], [0, 0]], np.float32), (255, 102, 0))
        light = layers.light()
        assert light[:, 0, 0] == pytest.approx([1, 0.4, 0])
        under = np.exp(-9 * MELANIN)
        assert light[:, 0, 1] == pytest.approx(0.5 * under + [0.5, 0.2, 0])

    def test_adding_layers_whole_is_painting_them_and_none_of_it_is_nothing(self):
        skin, lesion, both = Layers(4), Layers(4), Layers(4)
        half = np.full((4, 4), 0.5, np.float32)
        for layers in (skin, both):
            layers.melanin += 0.2
            layers.cover(0.5 * half, (200, 180, 160))
        untouched = skin.light()
        for layers in (lesion, both):
            layers.blood += 0.7
            layers.cover(half, (10, 200, 30))
        skin.add(lesion, fraction=0.0)
        assert skin.light() == pytest.approx(untouched)
        skin.add(lesion)
        assert skin.light() == pytest.approx(both.light(), rel=1e-5)

    @pytest.mark.parametrize("name", LOOKS)
    def test_every_class_paints_within_physical_limits(self, name):
        for seed in range(5):
            g = rng(name, seed)
            layers = Layers(N)
            outline = draw_outline(g, N, LOOKS[name].form)
            LOOKS[name].paint(g, outline, layers)
            light = layers.light()
            assert light.dtype == np.float32
            assert np.isfinite(light).all()
            assert layers.seen.min() >= 0
            assert layers.seen.max() <= 1
            # A lesion fades out at its border: far outside nothing may change.
            far = outline.depth > 2.2
            assert np.abs(light[:, far] - 1).max(initial=0) < 0.05


class TestCamera:
    def test_artefacts_and_camera_give_bytes_of_half_the_size(self):
        for seed in range(20):
            g = rng("camera", seed)
            circumstances, layers = Circumstances.draw(g), Layers(N)
            Skin.draw(g).paint(g, layers)
            add_artefacts(g, circumstances, layers)
            picture = photograph(g, circumstances, layers.light())
            assert picture.shape == (3, N // 2, N // 2)
            assert picture.dtype == np.uint8

    def test_a_dermatoscope_leaves_the_corners_black(self):
        quiet = {
            "vignette": 0.1,
            "flashes": 0.0,
            "hairs": 0.0,
            "hair_density": 1.0,
            "blur": 0.0,
            "noise": 0.0,
        }
        corners = []
        for tube in (False, True):
            camera = Circumstances(np.ones(3, np.float32), tube=tube, **quiet)
            picture = photograph(rng(), camera, np.full((3, N, N), 0.8, np.float32))
            corners.append(picture[:, :3, :3].mean())
            assert picture[:, 20:28, 20:28].mean() == pytest.approx(0.8 * 255, rel=0.05)
        assert corners[0] > 150
        assert corners[1] < 15
