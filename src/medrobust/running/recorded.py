"""What a run folder is of: the study, its split, and the data, networks, versions and machine behind it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import yaml

from medrobust.data.splitting.case_sets import described
from medrobust.data.splitting.splits import split_csv
from medrobust.errors import RunError
from medrobust.record import environment
from medrobust.running.plan import Plan
from medrobust.running.setup import Setup
from medrobust.storage import RunFolder
from medrobust.study.config import resolved
from medrobust.study.reading import STORED

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
        "classes": list(dataset.classes),
        "colours": list(dataset.colours),
        "fingerprint": dataset.fingerprint,
        "facts": {**(dataset.facts or {}), "evaluated": described(setup.cases, dataset)},
    }
    networks = {
        network.id.folder: {**asdict(network.id), **setup.recipe(network), "digest": setup.digest(network)}
        for network in (*setup.targets, *setup.surrogates)
    }
    return environment(str(setup.device), torch.get_num_threads()) | {
        "data": data,
        "cases": {"attacked": len(setup.cases), "test": sum(len(fold.test_cases) for fold in setup.folds)},
        "networks": networks,
    }


def write_record(plan: Plan, record: Mapping[str, Any]) -> None:
    """What the folder is of: the resolved study, its split, what it refers to, and what is behind it."""
    setup, folder = plan.setup, plan.setup.folder
    folder.write_json(references(plan), REFERENCES)
    text = yaml.safe_dump(resolved(setup.study), sort_keys=False, allow_unicode=True)
    folder.write_json(record, RECORD)
    folder.write_bytes(split_csv([fold.split for fold in setup.folds]).encode(), "split.csv")
    folder.write_bytes(text.encode(), STORED)


def references(plan: Plan) -> dict[str, list[str]]:
    """Names of all folders that a study refers to, for `medrobust clean`."""
    setup = plan.setup
    return {
        "models": [network.id.folder for network in (*setup.targets, *setup.surrogates)],
        "sets": [images.name for images in (*plan.sets, *plan.whole_test)],
        "targets": [target.name for target in plan.targets],
    }


def refuse_other_data(former: Mapping[str, Any], record: Mapping[str, Any], folder: RunFolder) -> None:
    """See that a run folder is of the same data.

    Raises:
        RunError: They are others.
    """
    if former["data"]["fingerprint"] != record["data"]["fingerprint"]:
        raise RunError(f"The run folder '{folder.url}' was made with other data. {REMEDY}")


def refuse_other_inputs(record: Mapping[str, Any], folder: RunFolder) -> None:
    """The study may be the same while a file that it names, or the program, has changed since.

    Raises:
        RunError: The data or networks are others than those that the run folder was made with.
    """
    if not folder.exists(RECORD):
        return
    former = folder.read_json(RECORD)
    refuse_other_data(former, record, folder)
    networks = record["networks"]
    changed = [name for name in networks if former["networks"].get(name) != networks[name]]
    if changed:
        raise RunError(
            f"The run folder '{folder.url}' belongs to other networks: what {', '.join(changed)} is made "
            f"from (weights, code, split) differs from its record.json. {REMEDY}"
        )
