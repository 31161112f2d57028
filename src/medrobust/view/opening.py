"""From a run folder to a page that shows all of it."""

from pathlib import Path

from medrobust.analysis.results import Results
from medrobust.running.plan import make_plan
from medrobust.running.setup import choose_device, set_up
from medrobust.storage import RunFolder
from medrobust.study.config import Study
from medrobust.view.gallery import Gallery
from medrobust.view.server import Server


def open_viewer(
    study: Study,
    folder: RunFolder,
    results: Results,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    port: int = 0,
) -> Server:
    """A server on loopback that shows every case of a finished run; `serve_forever` starts it.

    Args:
        study: The study of the run.
        folder: The run folder.
        results: The rows of the run.
        data_dir: Folder that the `root` of the study's data is relative to.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes the best there is.
        port: Port to listen on; 0 takes a free one.

    Raises:
        MedrobustError: The data are not found or have changed, or there is no such device or port.
    """
    setup = set_up(study, folder, data_dir=data_dir, device=choose_device(device))
    gallery = Gallery(make_plan(setup), results)
    return Server(gallery, f"{setup.dataset.name}, image by image", port=port)
