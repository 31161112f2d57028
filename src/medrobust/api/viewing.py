"""Look at the cases of a finished run in a browser."""

import os
from pathlib import Path

from medrobust.api.runs import Run
from medrobust.study.opening import set_up
from medrobust.study.plan import make_plan
from medrobust.study.runner import choose_device
from medrobust.view.gallery import Gallery
from medrobust.view.server import Server


def viewer(
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    device: str = "auto",
    port: int = 0,
) -> Server:
    """A server on loopback that shows every case of a finished run; `serve_forever` starts it.

    Args:
        path: The run folder.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes the best there is.
        port: Port to listen on; 0 takes a free one.

    Raises:
        MedrobustError: The run is not finished, or its data are not found or have changed.
        OSError: The port is taken.
    """
    opened = Run.open(path)
    setup = set_up(
        opened.study,
        opened.folder,
        data_dir=None if data is None else Path(data),
        device=choose_device(device),
    )
    gallery = Gallery(make_plan(setup), opened.results)
    return Server(gallery, f"{setup.dataset.name}, image by image", port=port)
