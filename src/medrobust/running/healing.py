"""Look for damage in what a run folder holds, and take it away, so that it is made again."""

from medrobust.core import OnProgress, silent
from medrobust.errors import DamagedError
from medrobust.running.image_sets import Part
from medrobust.running.progress import Say
from medrobust.running.training_folder import BEST, STATE, check_finished
from medrobust.storage import ImageStore, RunFolder
from medrobust.storage.disk import is_temporary


def heal(folder: RunFolder, say: Say, progress: OnProgress = silent) -> None:
    """Compare everything finished with its checksums; nothing else is touched.

    Object stores see to it themselves that nothing changes: there, files are compared when they are read.

    Args:
        folder: The run folder, which nobody else works on.
        say: Told of every damage.
        progress: Told how far it is, by networks and sets of images.
    """
    if not folder.is_local:
        return
    networks, sets = folder.names("models"), folder.names("crafted")
    for number, name in enumerate((*networks, *sets)):
        progress(number / len((*networks, *sets)), f"checksums of {name}")
        if number < len(networks):
            _heal_network(folder, name, say)
        else:
            _heal_images(folder, name, say)
    for part in folder.files():
        hidden_below = len(part) > 1 and part[-1].startswith(".")
        if hidden_below or is_temporary(part[-1]):  # left by a killed write
            folder.remove(*part)
        elif part[0] in ("crafted", "results") and part[-1].endswith(".gz"):
            _heal_part(folder, part, say)


def _heal_network(folder: RunFolder, name: str, say: Say) -> None:
    try:
        for state in (STATE, BEST):
            if folder.exists("models", name, state):
                folder.read_sealed("models", name, state)
        if folder.exists("models", name, "card.json"):
            check_finished(folder, "models", name)
    except DamagedError as error:
        say(f"{error} It is trained again.")
        folder.remove("models", name)


def _heal_images(folder: RunFolder, name: str, say: Say) -> None:
    """Markers of damaged chunks go; what describes the images goes where it is damaged, and all of them."""
    finished = sorted(folder.numbers("crafted", name, "done"))
    if not finished:
        return
    try:
        store = ImageStore(folder, "crafted", name)
    except DamagedError as error:
        say(f"{error} All of its images are made again.")
        folder.remove("crafted", name)
        return
    for chunk in finished:
        try:
            store.read(chunk, verify=True)
        except DamagedError as error:
            say(str(error))
            store.forget(chunk)


def _heal_part(folder: RunFolder, part: Part, say: Say) -> None:
    try:
        folder.read_sealed(*part)
    except DamagedError as error:
        say(str(error))
        folder.remove(*part)
        if part[0] == "crafted" and part[-2] == "rows":  # rows are written by who makes the images
            marker = part[-1].partition(".")[0] + ".json"
            folder.remove(*part[:-2], "done", marker)
