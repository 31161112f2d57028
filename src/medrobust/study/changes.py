"""A study that has changed since its run folder was begun: what still holds is used, nothing is lost.

Images and rows are named by everything that they depend on, so that those of another state of the study are
never taken for others. Networks have plain names: former ones are put aside, and come back when the study
does.
"""

from collections.abc import Callable, Mapping
from typing import Any

from medrobust.errors import RunError
from medrobust.steps.evaluate import row_table
from medrobust.storage import RunFolder
from medrobust.study.config import Study, resolved
from medrobust.study.plan import Plan
from medrobust.study.reading import STORED, read_stored_study
from medrobust.study.recorded import RECORD, REMEDY, refuse_other_data

Say = Callable[[str], None]


def refuse_other_task(study: Study, folder: RunFolder) -> None:
    """See that a run folder is one, and of the same task.

    Raises:
        RunError: It is a file, or belongs to a study of the other task.
    """
    if folder.is_file():
        raise RunError(f"--out: '{folder.url}' is a file. Give a folder, or a name that is free.")
    if folder.exists(STORED) and read_stored_study(folder).task != study.task:
        raise RunError(f"The run folder '{folder.url}' belongs to another study: task differs. {REMEDY}")


def adopt(plan: Plan, record: Mapping[str, Any], say: Say) -> None:
    """Make a run folder one of the study as it is now.

    Args:
        plan: What the study consists of now.
        record: Its record.
        say: Told what has changed, what still holds and what is made again.

    Raises:
        RunError: The data are others: nothing at all would hold.
    """
    folder = plan.setup.folder
    if not folder.exists(RECORD):
        return
    former = folder.read_json(RECORD)
    refuse_other_data(former, record, folder)
    for sentence in changes(plan, former, record):
        say(sentence)
    aside = outdated(former, record)
    for name, digest in aside.items():
        if folder.exists("models", name):
            folder.move(("models", name), ("models", f"{name}--{digest}"))
    for name, entry in record["networks"].items():
        kept = ("models", f"{name}--{entry['digest']}")
        if folder.exists(*kept) and not folder.exists("models", name):
            folder.move(kept, ("models", name))
    if aside or _changed_keys(plan):
        folder.remove("results", f"{row_table(plan.setup.study.task).name}.parquet")  # no longer finished


def changes(plan: Plan, former: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """What has changed, what still holds and what is made again, in sentences; none where nothing has."""
    keys, others = _changed_keys(plan), outdated(former, record)
    if not keys and not others:
        return []
    folder = plan.setup.folder
    known, wanted = folder.names("crafted"), [images.name for images in plan.crafted]
    held = [name for name in wanted if name in known]
    sentences = [
        f"The study has changed since this run folder was begun: {', '.join(keys) or 'files that it names'}."
    ]
    if others:
        sentences.append(
            f"These networks no longer hold, and are made again: {', '.join(others)}. What was trained is "
            "put aside in models/, and comes back if the change is undone."
        )
    sentences.append(
        f"Of {len(wanted)} sets of perturbed images {len(held)} still hold and {len(wanted) - len(held)} are "
        f"made; {len(set(known) - set(wanted))} are no longer used (`medrobust clean`)."
    )
    return sentences


def outdated(former: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """Networks of the former study that are others now, or none of this study, with their former digests."""
    wanted = record["networks"]
    return {
        name: str(entry.get("digest"))
        for name, entry in former["networks"].items()
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
