"""A run folder over time: its record, changes of the study, damage, left-overs, and the tables at the end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import yaml
from rich.table import Table

from medrobust.core import OnProgress, Role, silent
from medrobust.data.files import is_missing
from medrobust.data.splitting.case_sets import described
from medrobust.data.splitting.splits import split_csv
from medrobust.errors import DamagedError, RunError
from medrobust.perturbations import Request
from medrobust.running.announcing import size
from medrobust.running.certify import certificate_parts, certified_name, certifying_times
from medrobust.running.embed import embedding_parts, tsne_mark
from medrobust.running.evaluate import evaluation_parts, timing_parts
from medrobust.running.jobs import is_left_out
from medrobust.running.plan import Plan
from medrobust.running.progress import Say
from medrobust.running.record import environment
from medrobust.running.selftest import selftest_part
from medrobust.running.setup import Setup
from medrobust.running.training_folder import BEST, STATE, verified
from medrobust.storage import ImageStore, Parts, RunFolder, compact, frame_of, write_results
from medrobust.storage.disk import is_temporary
from medrobust.storage.lock import locked
from medrobust.storage.schemas import (
    ATTRIBUTES,
    CERTIFICATES,
    CRAFTED,
    EMBEDDINGS,
    EMPTY_CASES,
    SCORED,
    SELFTEST,
    SURFACES,
    TIMING,
    VALIDATION,
    WHOLE_TEST,
)
from medrobust.study.config import Study, resolved
from medrobust.study.reading import STORED, read_stored_study
from medrobust.study.training import corruptions_of
from medrobust.text import text_table

RECORD = "record.json"
REFERENCES = "references.json"
REMEDY = "Give another folder with --out, or undo the change."


def record_of(setup: Setup) -> dict[str, Any]:
    """The data, networks, versions and machine behind a run folder, as JSON-able data."""
    dataset = setup.dataset
    data = {
        "name": dataset.name,
        "phantom": dataset.phantom,
        "unit": dataset.unit,
        "shape": list(dataset.shape),
        "classes": list(dataset.classes),
        "regions": {name: list(own) for name, own in (dataset.regions or {}).items()},
        "colours": list(dataset.colours),
        "fingerprint": dataset.fingerprint,
        "spacing": None if dataset.spacing is None else [float(side) for side in dataset.spacing],
        "facts": {**(dataset.facts or {}), "evaluated": described(setup.cases, dataset)},
    }
    control = setup.study.matched_noise
    networks = {
        network.id.folder: {**asdict(network.id), **network.recipe, "digest": network.digest}
        for network in setup.networks
    }
    return environment(str(setup.device), torch.get_num_threads()) | {
        "data": data,
        "cases": {"attacked": len(setup.cases), "test": sum(len(fold.test_cases) for fold in setup.folds)},
        "networks": networks,
        "without_gradient": list(
            dict.fromkeys(each.id.name for each in setup.targets if not setup.has_gradient(each))
        ),
        "assumed": {
            network.id.folder: list(setup.network(network).assumed)
            for network in setup.networks
            if not network.is_trained_here  # the others have a card
        },
        "perturbations": [_told(request, setup.study) for request in setup.study.requests],
        "control": control and control.label,
        "control_trained_on": trained_on(control, setup.study) if control else [],
    }


def _told(request: Request, study: Study) -> dict[str, Any]:
    """What analysis and report must know of a perturbation, whose code may be out of their reach."""
    of_curve = request.curve is not None
    return {
        "label": request.label,
        "ssim": request.ssim,
        "curve": request.curve,
        "value": request.parameters.get(str(request.perturbation.budget)) if of_curve else None,
        "search": request.parameters.get("search") if request.perturbation.role == "transform" else None,
        "moves_labels": request.perturbation.moves_labels,
        "trained_on": trained_on(request, study),
        **request.facts,
    }


def trained_on(request: Request, study: Study) -> list[str]:
    """The networks that are judged and were trained on a corruption or noise, at whatever strength."""
    found = []
    for (role, name), training in study.trainings.items():
        seen = {each.name for each in corruptions_of(training, study.task)}
        if training.corrupting.gaussian is not None:
            seen |= {"gaussian", "gaussian_noise"}
        if role is Role.TARGET and request.name in seen:
            found.append(name)
    return found


def write_record(plan: Plan, record: Mapping[str, Any]) -> None:
    """Write the resolved study, its split, its record, and the folders that it refers to."""
    setup, folder = plan.setup, plan.setup.folder
    certified = setup.targets if setup.study.certificates else ()
    references = {
        "models": [network.id.folder for network in setup.networks],
        "sets": [
            *(images.name for images in (*plan.evaluated, *plan.whole_test, *plan.candidates)),
            *dict.fromkeys(certified_name(setup, target) for target in certified),
        ],
        "targets": [target.key for target in setup.targets],
    }
    folder.write_json(references, REFERENCES)
    text = yaml.safe_dump(resolved(setup.study), sort_keys=False, allow_unicode=True)
    folder.write_json(record, RECORD)
    folder.write_bytes(split_csv([fold.split for fold in setup.folds]).encode(), "split.csv")
    folder.write_bytes(text.encode(), STORED)


def _refuse_other_data(former: Mapping[str, Any], record: Mapping[str, Any], folder: RunFolder) -> None:
    if former["data"]["fingerprint"] != record["data"]["fingerprint"]:
        raise RunError(f"The run folder '{folder.url}' was made with other data. {REMEDY}")


def refuse_other_inputs(record: Mapping[str, Any], folder: RunFolder) -> None:
    """See that data and networks are those of a run folder, of whose study this is the record.

    The study may be the same while a file that it names, or the program, has changed.

    Raises:
        RunError: They are others.
    """
    if not folder.exists(RECORD):
        return
    former = folder.read_json(RECORD)
    _refuse_other_data(former, record, folder)
    networks = record["networks"]
    changed = [name for name in networks if former["networks"].get(name) != networks[name]]
    if changed:
        raise RunError(
            f"The run folder '{folder.url}' belongs to other networks: what {', '.join(changed)} is made "
            f"from (weights, code, split) differs from its record.json. {REMEDY}"
        )


def refuse_other_task(study: Study, folder: RunFolder) -> None:
    """See that a run folder is a folder, and of the same task.

    Raises:
        RunError: It is a file, or belongs to a study of the other task.
    """
    if folder.is_file():
        raise RunError(f"--out: '{folder.url}' is a file. Give a folder, or an unused name.")
    if folder.exists(STORED) and read_stored_study(folder).task != study.task:
        raise RunError(f"The run folder '{folder.url}' belongs to another study: task differs. {REMEDY}")


@dataclass(frozen=True)
class Change:
    """How a study has changed since its run folder was begun.

    Attributes:
        sentences: What has changed, what still holds and what is made again; none where nothing has.
        outdated: Networks of the folder that have changed, or are gone from the study, with their digests.
    """

    sentences: tuple[str, ...] = ()
    outdated: Mapping[str, str] = field(default_factory=dict)


def change_since(plan: Plan, record: Mapping[str, Any]) -> Change:
    """Compare a study, as it is now, with what its run folder was made with.

    Raises:
        RunError: The data are others: nothing at all would hold.
    """
    folder = plan.setup.folder
    if not folder.exists(RECORD):
        return Change()
    former = folder.read_json(RECORD)
    _refuse_other_data(former, record, folder)
    keys = []
    if folder.exists(STORED):
        before, now = _deciding(read_stored_study(folder)), _deciding(plan.setup.study)
        keys = [key for key in now if before.get(key) != now[key]]
    wanted = record["networks"]
    outdated = {
        name: str(entry.get("digest"))
        for name, entry in former["networks"].items()
        if name not in wanted or wanted[name]["digest"] != entry.get("digest")
    }
    if not keys and not outdated:
        return Change()
    return Change(tuple(_sentences(plan, keys, outdated)), outdated)


def adopt(plan: Plan, record: Mapping[str, Any], change: Change) -> None:
    """Adapt a run folder to its study as it is now: put networks aside, or bring them back."""
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
    folder.remove("results", f"{SCORED[plan.setup.study.task].name}.parquet")  # no longer finished


def aside(name: str, digest: str) -> tuple[str, str]:
    """Where a network is kept that the study no longer has, by the digest of its recipe."""
    return ("models", f"{name}--{digest}")


def _sentences(plan: Plan, keys: Sequence[str], outdated: Iterable[str]) -> Iterator[str]:
    what = ", ".join(keys) or "files that it names"
    yield f"The study has changed since this run folder was begun: {what}."
    if outdated:
        yield (
            f"These networks are out of date and will be made again: {', '.join(outdated)}. Trained ones are "
            "kept aside in models/, and return if the change is undone."
        )
    known, wanted = plan.setup.folder.names("crafted"), [images.name for images in plan.crafted]
    held = [name for name in wanted if name in known]
    yield (
        f"Of {len(wanted)} sets of perturbed images, {len(held)} are still valid and "
        f"{len(wanted) - len(held)} will be made; {len(set(known) - set(wanted))} are no longer used "
        "(`medrobust clean`)."
    )


def _deciding(study: Study) -> dict[str, Any]:
    """The keys of a study that decide which networks, images and rows it has.

    Not its analysis and report, the groups that scores are shown by, whether data are audited and attacks
    self-tested, or how and where the work is done.
    """
    content = resolved(study)
    del content["analysis"], content["report"], content["audit"], content["ray"]
    content["data"].pop("attributes", None)
    del content["crafting"]["batch_size"], content["crafting"]["selftest"]
    return content


def heal(folder: RunFolder, say: Say, progress: OnProgress = silent) -> None:
    """Compare everything finished with its checksums, and remove what is damaged; nothing else is touched.

    Object stores protect what they hold themselves: there, files are compared when they are read. No other
    process may work on the folder. `say` reports all damage.
    """
    if not folder.is_local:
        return
    kinds = {"models": _heal_network, "crafted": _heal_images}
    healing = [(name, heal_one) for kind, heal_one in kinds.items() for name in folder.names(kind)]
    for number, (name, heal_one) in enumerate(healing):
        progress(number / len(healing), f"checksums of {name}")
        heal_one(folder, name, say)
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
            verified(folder.within("models", name))
    except DamagedError as error:
        say(f"{error} It is trained again.")
        folder.remove("models", name)


def _heal_images(folder: RunFolder, name: str, say: Say) -> None:
    """Markers of damaged chunks go; where the description of the images is damaged, everything goes."""
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


def _heal_part(folder: RunFolder, part: Parts, say: Say) -> None:
    try:
        folder.read_sealed(*part)
    except DamagedError as error:
        say(str(error))
        folder.remove(*part)
        if part[0] == "crafted" and part[-2] == "rows":  # rows are written when the images are made
            marker = part[-1].partition(".")[0] + ".json"
            folder.remove(*part[:-2], "done", marker)


@dataclass(frozen=True)
class LeftOver:
    """A folder that is left from a former state of a study.

    Attributes:
        parts: Its path in the run folder.
        what: What it holds, in words.
        bytes: Size of all that is in it.
    """

    parts: Parts
    what: str
    bytes: int


def left_overs(folder: RunFolder) -> list[LeftOver]:
    """Everything that can be removed without loss to the study as it is now.

    Raises:
        RunError: It is not a run folder.
    """
    if not folder.exists(REFERENCES):
        raise RunError(
            f"'{folder.url}' is not a run folder, or was made by another version: it has no {REFERENCES}. "
            "Give the --out folder of `medrobust run`."
        )
    used = folder.read_json(REFERENCES)
    return [LeftOver(parts, what, folder.size(*parts)) for parts, what in _unused(folder, used)]


def clean(folder: RunFolder, found: Sequence[LeftOver]) -> None:
    """Remove what is left over.

    Raises:
        RunError: Another process works on the run folder.
    """
    with locked(folder):
        for each in found:
            folder.remove(*each.parts)


def left_over_table(found: Sequence[LeftOver]) -> Table:
    """What is left over, as a table."""
    table = text_table("folder", "what", "size", show_footer=True)
    table.columns[0].footer, table.columns[2].footer = "all", size(sum(each.bytes for each in found))
    for each in found:
        table.add_row("/".join(each.parts), each.what, size(each.bytes))
    return table


def _unused(folder: RunFolder, used: Mapping[str, Sequence[str]]) -> Iterator[tuple[Parts, str]]:
    for name in folder.names("models"):
        if name not in used["models"]:
            yield ("models", name), "a network as it was trained before"
    for name in folder.names("crafted"):
        if name not in used["sets"]:
            yield ("crafted", name), "perturbed images"
    for table in folder.names("results", "parts"):
        for target in folder.names("results", "parts", table):
            parts = ("results", "parts", table, target)
            if target not in used["targets"]:
                yield parts, "rows of a network as it was before"
                continue
            for name in folder.names(*parts):
                if "--" in name and name.partition("~")[0] not in used["sets"]:
                    yield (*parts, name), "rows of images that are no longer used"


def join_selftests(plan: Plan) -> None:
    """Join what the self-tests saw."""
    compact(plan.setup.folder, SELFTEST, [selftest_part(images) for images in plan.tested])


def join_rows(plan: Plan) -> None:
    """Join the parts that the jobs left to one sorted table each."""
    setup, folder = plan.setup, plan.setup.folder
    targets, scores = setup.targets, SCORED[setup.study.task]
    crafted = (images.rows_part(chunk) for images in plan.crafted for chunk in range(len(images.chunks)))
    compact(folder, CRAFTED, crafted)
    whole_test = evaluation_parts(setup, plan.whole_test, targets, scores)
    compact(folder, WHOLE_TEST[setup.study.task], whole_test)
    validation = VALIDATION[setup.study.task]
    if plan.candidates:
        parts = evaluation_parts(setup, plan.candidates, targets, scores, rounded=False)
        compact(folder, validation, parts)
    else:  # they may be left from a former state of the study
        folder.remove("results", f"{validation.name}.parquet")
    pictured = [target for target in targets if not is_left_out(folder, tsne_mark(target))]
    embedded = (part for target in pictured for part in embedding_parts(plan.embedded(target), target))
    compact(folder, EMBEDDINGS, embedded)
    if setup.study.certificates:
        compact(folder, CERTIFICATES[setup.study.task], certificate_parts(setup))
    else:
        folder.remove("results", "certificates.parquet")
    _write_attributes(setup)
    if setup.tolerance is not None:
        for table in (SURFACES, EMPTY_CASES):
            compact(folder, table, evaluation_parts(setup, plan.evaluated, targets, table))
    compact(folder, TIMING, [*timing_parts(setup, plan.evaluated), *certifying_times(setup)])
    # Last: a run with these rows is finished.
    compact(folder, scores, evaluation_parts(setup, plan.evaluated, targets, scores))


def _write_attributes(setup: Setup) -> None:
    """Write `results/attributes.parquet`: a row per scan and known attribute; numbers as text."""
    known = setup.dataset.attributes or {}
    owners = {case.scan_id: case.patient_id for case in setup.cases}
    rows = [
        {
            "scan_id": scan,
            "patient_id": patient,
            "attribute": name,
            "value": value if isinstance(value, str) else f"{value:g}",
        }
        for scan, patient in owners.items()
        for name, value in known.get(scan, {}).items()
        if not is_missing(str(value))
    ]
    frame = frame_of(ATTRIBUTES, rows).sort(ATTRIBUTES.keys)
    write_results(setup.folder, ATTRIBUTES, frame)
