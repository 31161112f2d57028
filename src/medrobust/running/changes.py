"""A study that has changed since its run folder was begun: what still holds is used, nothing is lost.

Images and rows are named by everything that they depend on, so that those of another state of the study are
never taken for others. Networks have plain names: former ones are put aside, and come back when the study
does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medrobust.errors import RunError
from medrobust.running.evaluate import row_table
from medrobust.running.plan import Plan
from medrobust.running.recorded import RECORD, REMEDY, refuse_other_data
from medrobust.storage import RunFolder
from medrobust.study.config import Study, resolved
from medrobust.study.reading import STORED, read_stored_study


def refuse_other_task(study: Study, folder: RunFolder) -> None:
    """See that a run folder is one, and of the same task.

    Raises:
        RunError: It is a file, or belongs to a study of the other task.
    """
    if folder.is_file():
        raise RunError(f"--out: '{folder.url}' is a file. Give a folder, or a name that is free.")
    if folder.exists(STORED) and read_stored_study(folder).task != study.task:
        raise RunError(f"The run folder '{folder.url}' belongs to another study: task differs. {REMEDY}")


@dataclass(frozen=True)
class Change:
    """What a study has become since its run folder was begun.

    Attributes:
        sentences: What has changed, what still holds and what is made again; none where nothing has.
        outdated: Networks of the folder that are others now, or gone from the study, with their digests.
    """

    sentences: tuple[str, ...] = ()
    outdated: Mapping[str, str] = field(default_factory=dict)


def change_since(plan: Plan, record: Mapping[str, Any]) -> Change:
    """Compare a study with what its run folder was made with.

    Args:
        plan: What the study consists of now.
        record: Its record.

    Raises:
        RunError: The data are others: nothing at all would hold.
    """
    folder = plan.setup.folder
    if not folder.exists(RECORD):
        return Change()
    former = folder.read_json(RECORD)
    refuse_other_data(former, record, folder)
    keys, outdated = _changed_keys(plan), _outdated(former["networks"], record["networks"])
    if not keys and not outdated:
        return Change()
    return Change(tuple(_sentences(plan, keys, outdated)), outdated)


def adopt(plan: Plan, record: Mapping[str, Any], change: Change) -> None:
    """Make a run folder one of the study as it is now: put networks aside, or bring them back.

    Args:
        plan: What the study consists of now.
        record: Its record.
        change: From `change_since`.
    """
    if not change.sentences:
        return
    folder = plan.setup.folder
    for name, digest in change.outdated.items():
        if folder.exists("models", name):
            folder.move(("models", name), aside(name, digest))
    for name, entry in record["networks"].items():
        kept = aside(name, entry["digest"])
        if folder.exists(*kept) and not folder.exists("models", name):
            folder.move(kept, ("models", name))
    folder.remove("results", f"{row_table(plan.setup.study.task).name}.parquet")  # no longer finished


def aside(name: str, digest: str) -> tuple[str, str]:
    """Where a network is kept that the study no longer has, by the digest of its recipe."""
    return ("models", f"{name}--{digest}")


def _sentences(plan: Plan, keys: Sequence[str], outdated: Iterable[str]) -> Iterator[str]:
    what = ", ".join(keys) or "files that it names"
    yield f"The study has changed since this run folder was begun: {what}."
    if outdated:
        yield (
            f"These networks no longer hold, and are made again: {', '.join(outdated)}. What was trained is "
            "put aside in models/, and comes back if the change is undone."
        )
    known, wanted = plan.setup.folder.names("crafted"), [images.name for images in plan.crafted]
    held = [name for name in wanted if name in known]
    yield (
        f"Of {len(wanted)} sets of perturbed images {len(held)} still hold and {len(wanted) - len(held)} are "
        f"made; {len(set(known) - set(wanted))} are no longer used (`medrobust clean`)."
    )


def _outdated(former: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(entry.get("digest"))
        for name, entry in former.items()
        if name not in wanted or wanted[name]["digest"] != entry.get("digest")
    }


def _changed_keys(plan: Plan) -> list[str]:
    """Keys of the study that decide its numbers and have another value than in the run folder."""
    if not plan.setup.folder.exists(STORED):
        return []
    former, wanted = _deciding(read_stored_study(plan.setup.folder)), _deciding(plan.setup.study)
    return [key for key in wanted if former.get(key) != wanted[key]]


def _deciding(study: Study) -> dict[str, Any]:
    """What of a study decides which networks, images and rows it has.

    Not its analysis and report, the groups that scores are shown for, whether data are audited and attacks
    self-tested, or how and where the work is done.
    """
    content = resolved(study)
    del content["analysis"], content["report"], content["audit"], content["ray"]
    content["data"].pop("attributes", None)
    del content["crafting"]["batch_size"], content["crafting"]["selftest"]
    return content
