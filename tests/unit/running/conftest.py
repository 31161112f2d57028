"""Runs whose reports hold blank figures: drawing takes longest, and `tests/unit/report` looks at figures."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"></svg>'


def blank(figure: Figure, file: io.BytesIO, *, format: str, **options: Any) -> None:  # noqa: A002
    """Instead of `Figure.savefig`."""
    if format == "svg":
        file.write(SVG)
    else:
        Image.new("RGB", (1, 1)).save(file, format)


@pytest.fixture(scope="module", autouse=True)
def _blank_figures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        yield
