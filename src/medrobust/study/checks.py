"""What has to hold between the keys of a study."""

from collections.abc import Sequence
from dataclasses import replace

from medrobust.core import Task
from medrobust.data import DATASETS
from medrobust.errors import StudyError, unknown
from medrobust.perturbations import PERTURBATIONS, Request
from medrobust.perturbations.request import LABEL
from medrobust.study.config import Study


def check_study(study: Study) -> None:
    """What no single key can know. Resolving the catalogue entries checks their names and parameters.

    Raises:
        StudyError: Two keys contradict each other.
    """
    if study.task is Task.SEGMENTATION and study.cases.total is not None:
        raise StudyError(
            f"study.cases.total: is for photographs; got {study.cases.total}. "
            "Limit slices by cases.per_patient."
        )
    _check_models(study)
    _check_perturbations(study)
    _check_targets(study)
    _check_surrogates(study)


def require_task(study: Study) -> None:
    """Say before scans are decoded, which may take minutes, that data of the catalogue are of the other task.

    Raises:
        StudyError: They are.
    """
    name = str(study.data.get("name"))
    entry = None if "load" in study.data else DATASETS.get(name)
    if entry is not None and entry.task is not None:
        require_same_task(study, name, entry.task)


def require_same_task(study: Study, name: str, task: Task) -> None:
    """See that data are labelled for what the networks do.

    Args:
        study: What is asked for.
        name: Of the data.
        task: What they are labelled for.

    Raises:
        StudyError: They are labelled for the other task.
    """
    if task != study.task:
        raise StudyError(f"study.task is {study.task}, but '{name}' is labelled for {task}. Change one.")


def require_slices(study: Study) -> None:
    """Say before scans are decoded, which may take minutes, that whole volumes are wanted.

    Raises:
        StudyError: They are.
    """
    if study.data.get("axis") == "volume" and study.data.get("name") in DATASETS:
        raise StudyError(
            "study.data.axis: whole volumes and patches can be read and audited, but networks, attacks and "
            "figures of a study are made for slices; got 'volume'. Take coronal, axial or sagittal."
        )


def require_flat(name: str, shape: tuple[int, ...]) -> None:
    """See that images have two sides.

    Args:
        name: Of the data.
        shape: Of their images.

    Raises:
        StudyError: They are volumes.
    """
    if len(shape) != 2:
        raise StudyError(
            f"study.data: '{name}' holds volumes of {' x '.join(map(str, shape))} voxels. They can be read "
            "and audited, but networks, attacks and figures of a study are made for pictures and slices."
        )


def require_split(study: Study) -> None:
    """See that networks with weights of their own come with a split.

    A random one would test them on patients that they were trained on elsewhere.

    Raises:
        StudyError: There is none.
    """
    brought = [spec.name for spec in study.specs if not spec.train]
    if brought and not ("file" in study.split or study.split.get("test") == "all"):
        raise StudyError(
            f"study.split: '{brought[0]}' brings trained weights, so the split it was trained with "
            "is needed: {file: split.csv} with columns patient_id,part, or {test: all} if none of these "
            "patients trained it."
        )


def _check_models(study: Study) -> None:
    for spec in study.specs:
        if not LABEL.fullmatch(spec.name):  # it becomes a folder's name
            raise StudyError(
                f"study.models: a name may hold letters, digits, '.', '_' and '-' only; got '{spec.name}'. "
                "Give the network itself as `architecture`."
            )
        if study.trainings[spec.name] != study.training and not spec.train:
            raise StudyError(
                f"study.models.{spec.name}.training: '{spec.name}' is not trained here. Leave the key out."
            )
        if study.trainings[spec.name].nodes != study.training.nodes:
            raise StudyError(
                f"study.models.{spec.name}.training.nodes: all networks are trained on as many nodes; got "
                f"{study.trainings[spec.name].nodes}. Set it in study.training."
            )
    _refuse_twins("models", [spec.name for spec in study.specs], "name")


def _check_perturbations(study: Study) -> None:
    noise = study.matched_noise
    if not study.attacks:
        raise StudyError("study.perturbations must hold at least one attack; leave it out for the paper's.")
    for item in study.attacks:
        _require_kind("perturbations", item, "attack")
    for item in (*study.fixed_noise, *([noise] if noise else [])):
        _require_kind("noise", item, "noise")
    if noise and not (noise.unsolved and noise.ssim is None):
        raise StudyError(
            f"study.noise: '{noise.label}' is matched to every attack, so it takes no strength. "
            "Leave it out, or write a list for noise of a fixed strength."
        )
    for item in study.fixed_noise:
        if item.unsolved and item.ssim is None:
            raise StudyError(
                f"study.noise.{item.label}.strength: in a list this key is required: a number or "
                "{ssim: s}. For noise that is matched to every attack write no list."
            )
    labels = [item.label for item in (*study.attacks, *study.fixed_noise)]
    _refuse_twins("perturbations", [*labels, *([noise.label] if noise else [])], "label")
    _check_curves(study.attacks)


def _check_curves(attacks: Sequence[Request]) -> None:
    """Points that a study writes one by one must make a curve: only their budgets differ."""
    for name in {attack.curve for attack in attacks} - {None}:
        points = [attack for attack in attacks if attack.curve == name]
        alike = [replace(point.with_budget(0.0), label="") for point in points]
        budgets = {point.parameters[str(point.perturbation.budget)] for point in points}
        if len(budgets) < len(points) or any(other != alike[0] for other in alike):
            raise StudyError(
                f"study.perturbations: the points of the curve '{name}' must be one attack with different "
                f"budgets and nothing else different; got {', '.join(point.label for point in points)}. Give "
                "others another `label` or `curve`."
            )


def _check_targets(study: Study) -> None:
    seeds = study.targets.seeds
    _refuse_repeated("targets", seeds)
    brought = [spec.name for spec in study.specs if not spec.train]
    if brought and len(seeds) > 1:
        raise StudyError(
            f"study.targets.seeds: '{brought[0]}' brings trained weights, which are the same for every seed; "
            f"got {list(seeds)}. Give one seed, and each of its trainings as a model of its own."
        )


def _check_surrogates(study: Study) -> None:
    surrogates, names = study.surrogates, [spec.name for spec in study.specs]
    for name, file in surrogates.weights.items():
        if name not in names:
            raise StudyError(f"study.surrogates.weights: {unknown('model', name, names)}")
        if not file.is_file():
            raise StudyError(f"study.surrogates.weights.{name}: there is no file '{file}'.")
    _refuse_repeated("surrogates", surrogates.seeds)
    if surrogates.weights and len(surrogates.seeds) > 1:
        raise StudyError(
            "study.surrogates.seeds: networks with weights of their own are the same for every seed. "
            "Give one seed, or leave surrogates.weights out."
        )
    shared = sorted({*study.targets.seeds} & {*surrogates.seeds})
    if shared:
        raise StudyError(
            f"study.surrogates.seeds must differ from the targets' seeds (both have {shared[0]}), since a "
            "surrogate is trained independently. Choose another seed."
        )


def _require_kind(block: str, item: Request, kind: str) -> None:
    if item.perturbation.role != kind:
        fitting = [name for name, entry in PERTURBATIONS.items() if entry.role == kind]
        raise StudyError(
            f"study.{block}: '{item.name}' is no {kind}; these are: {', '.join(fitting)}. "
            "Attacks go into `perturbations`, noise into `noise`."
        )
    if item.label == "clean":
        raise StudyError(
            f"study.{block}: the label 'clean' is taken by the images as they are. Choose another."
        )


def _refuse_repeated(block: str, seeds: Sequence[int]) -> None:
    if len(set(seeds)) < len(seeds):
        raise StudyError(f"study.{block}.seeds: every seed once; got {list(seeds)}.")


def _refuse_twins(where: str, names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise StudyError(f"study.{where}: '{name}' stands there twice. Give one of them another `{key}`.")
