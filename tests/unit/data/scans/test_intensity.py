"""Normalisation of intensities, by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError

from medrobust.data.scans.intensity import Intensity, Window, intensity_fact, normalise
from medrobust.errors import DataError

BODY = np.random.default_rng(0).normal(500, 50, 1000).astype(np.float32)
VOLUME = np.concatenate([np.zeros(1000, np.float32), BODY]).reshape(10, 10, 20)


def test_a_window_is_what_radiologists_set():
    hounsfield = np.array([[[-1000, -160, 40, 240, 3000]]], np.float32)
    np.testing.assert_allclose(normalise(hounsfield, Window(40, 400), "ct"), [[[0, 0, 0.5, 1, 1]]])


def test_a_z_score_is_that_of_what_is_not_air():
    scaled = normalise(VOLUME, "z-score", "mr")
    z = (BODY - BODY.mean(dtype=np.float64)) / BODY.std(dtype=np.float64)
    np.testing.assert_allclose(scaled.ravel()[1000:], np.clip((z + 3) / 6, 0, 1), atol=1e-5)
    assert (scaled.ravel()[:1000] == 0).all()


def test_air_is_black_also_where_its_z_score_is_not():
    volume = np.array([[[0.0, 1, 100, 200]]], np.float32)
    assert normalise(volume, "z-score", "mr")[0, 0, 0] == 0 < normalise(volume, "z-score", "mr")[0, 0, 1]


@pytest.mark.parametrize("percentile", [50, 90, 99.5, 100])
def test_any_percentile(percentile):
    scaled = normalise(VOLUME, f"percentile-{percentile}", "mr")
    np.testing.assert_allclose(
        scaled.ravel()[1000:], np.clip(BODY / np.percentile(BODY, percentile), 0, 1), rtol=1e-5
    )


@given(
    image=arrays(np.float32, (2, 3, 4), elements=st.floats(-1e4, 1e4, width=32)),
    intensity=st.one_of(
        st.sampled_from(["min-max", "z-score", "percentile-99.5", "percentile-0"]),
        st.builds(Window, st.floats(-100, 100), st.floats(1, 1e4)),
    ),
)
def test_every_image_ends_in_the_unit_range_or_is_refused(image, intensity):
    try:
        scaled = normalise(image, intensity, "scan")
    except DataError:
        return
    assert scaled.dtype == np.float32
    assert np.isfinite(scaled).all()
    assert 0 <= scaled.min() < scaled.max() <= 1
    order = np.argsort(image.ravel(), kind="stable")
    assert (np.diff(scaled.ravel()[order]) >= 0).all()


def test_a_window_beside_the_image_is_refused():
    with pytest.raises(
        DataError, match=r"mr: window of centre -500 .* leaves nothing of intensities from 0 to"
    ):
        normalise(VOLUME, Window(-500, 100), "mr")


@pytest.mark.parametrize(
    "good",
    ["min-max", "z-score", "percentile-99.5", "percentile-100", "percentile-7", {"centre": 40, "width": 400}],
)
def test_what_a_study_may_say(good):
    read = TypeAdapter(Intensity).validate_python(good)
    assert read == (Window(40, 400) if isinstance(good, dict) else good)
    assert intensity_fact(read)


@pytest.mark.parametrize(
    "bad",
    ["percentile", "percentile-101", "percentile--1", "minmax", {"centre": 1}, {"centre": 1, "width": 0}, 3],
)
def test_what_it_may_not_say(bad):
    with pytest.raises(ValidationError, match="validation error"):
        TypeAdapter(Intensity).validate_python(bad)


def test_the_record_says_what_was_done():
    assert intensity_fact("percentile-99.5") == (
        "per scan, minimum to 0 and 99.5th percentile of the voxels above the minimum to 1, clipped"
    )
    assert (
        intensity_fact(Window(40, 400))
        == "window of centre 40 and width 400: -160 to 0 and 240 to 1, clipped"
    )
    assert "-3 to 0 and 3 to 1" in intensity_fact("z-score")
