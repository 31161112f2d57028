"""What must hold between the keys of a study."""

import math
from collections.abc import Sequence
from dataclasses import replace

from medrobust.core import Dataset, Role, Task
from medrobust.data import DATASETS
from medrobust.errors import StudyError, unknown
from medrobust.metrics.similarity import WINDOW
from medrobust.models.spec import is_trained
from medrobust.perturbations import Request, place_of_finding
from medrobust.perturbations.request import LABEL
from medrobust.perturbations.smoothing import largest_radius
from medrobust.study.analysis import primary_score
from medrobust.study.config import Study
from medrobust.study.endpoints import endpoints
from medrobust.study.training import corruptions_of


def check_study(study: Study) -> None:
    """Check what no single key can know; resolving catalogue entries checks their names and parameters.

    Raises:
        StudyError: Two keys contradict each other.
    """
    if study.task.has_maps and study.cases.total is not None:
        raise StudyError(
            f"study.cases.total: applies to photographs only; got {study.cases.total}. "
            "Limit slices by cases.per_patient."
        )
    primary_score(study.analysis.score, study.task, "study.analysis.score")
    endpoints(study.analysis.endpoints, study.analysis.costs, study.task)
    _check_baseline(study)
    _check_models(study)
    _check_perturbations(study)
    _check_targets(study)
    _check_surrogates(study)
    _check_certificates(study, 1)


def _check_certificates(study: Study, pixels: int) -> None:
    """See that the draws can certify the largest radius, where `pixels` are certified together."""
    asked = study.certificates
    if asked is None:
        return
    if study.task is Task.MULTILABEL:
        raise StudyError(
            "study.certificates: are of one class per image or of label maps; this study is one of "
            f"{study.task}. Leave the key out, or certify images with medrobust.certify."
        )
    family = {"pixels": pixels, "radii": len(asked.tested)} if study.task.has_maps else {}
    most = largest_radius(asked.draws, sigma=asked.sigma, alpha=asked.alpha, **family)
    if most < asked.tested[-1]:
        raise StudyError(
            f"study.certificates: {asked.draws} draws certify a radius of at most {max(most, 0):.3g} here, "
            f"even if all of them agree; got {asked.tested[-1]:.4g}. Give more `draws`, a larger `sigma` or "
            "smaller `radii`."
        )


def _check_baseline(study: Study) -> None:
    baseline, names = study.analysis.baseline, [spec.name for spec in study.specs]
    if baseline is None:
        return
    if study.task.has_maps:
        raise StudyError(
            f"study.analysis.baseline: balanced errors are of whole images, not of segmentations; got "
            f"{baseline!r}. Leave it out."
        )
    if baseline not in names:
        raise StudyError(f"study.analysis.baseline: {unknown('network', baseline, names)}")


def check_named_data(study: Study) -> None:
    """See that data of the catalogue fit the study, before scans are decoded, which may take minutes.

    Raises:
        StudyError: They are labelled for another task.
    """
    name = str(study.data.get("name"))
    if name not in DATASETS:
        return
    tasks = DATASETS[name].tasks
    if "load" not in study.data and tasks:
        _require_same_task(study, name, *tasks)


def check_opened_data(study: Study, dataset: Dataset) -> None:
    """See that data are labelled for what the networks do, and that images are large enough for SSIM.

    Raises:
        StudyError: They are labelled for another task, lack a finding that an attack is for or a class that
            an endpoint is about, have dimensions or channels that a corruption does not take, have more
            pixels than the draws of a certificate suffice for, or a side shorter than SSIM's window.
    """
    _require_same_task(study, dataset.name, dataset.task)
    for attack in study.attacks:
        place_of_finding(attack, dataset.classes)
    endpoints(study.analysis.endpoints, study.analysis.costs, study.task, dataset.structures)
    asked = [(f"perturbations.{each.label}", each) for each in study.requests]
    for training in study.trainings.values():
        asked += [(f"training.augment: {each.label}", each) for each in corruptions_of(training, study.task)]
    for where, each in asked:
        if complaint := each.perturbation.misfit(dataset.channels, len(dataset.shape)):
            raise StudyError(f"{where}: {complaint} Leave it out.")
    _check_certificates(study, math.prod(dataset.shape))
    if min(dataset.shape) < WINDOW:
        size = " x ".join(map(str, dataset.shape))
        raise StudyError(
            f"study.data: '{dataset.name}' holds images of {size}, but SSIM, by which noise is matched, "
            f"needs at least {WINDOW} along every side. Use a larger canvas, patch or size."
        )


def _require_same_task(study: Study, name: str, *tasks: Task) -> None:
    if study.task not in tasks:
        labelled = " or ".join(tasks)
        raise StudyError(f"study.task is {study.task}, but '{name}' is labelled for {labelled}. Change one.")


def require_split(study: Study) -> None:
    """See that networks with given weights come with a split.

    A random split would test them on patients that they were trained on.

    Raises:
        StudyError: There is none.
    """
    brought = [entry.get("name") for entry in study.models if not is_trained(entry)]
    if brought and not ("file" in study.split or study.split.get("test") == "all"):
        raise StudyError(
            f"study.split: '{brought[0]}' brings trained weights, so the split it was trained with "
            "is needed: {file: split.csv} with columns patient_id,part, or {test: all} if none of these "
            "patients trained it."
        )


def _check_models(study: Study) -> None:
    for block, role, specs in (
        ("models", Role.TARGET, study.specs),
        ("surrogates.models", Role.SURROGATE, study.surrogate_specs if study.own_surrogates else ()),
    ):
        for spec in specs:
            where, training = f"study.{block}.{spec.name}", study.trainings[role, spec.name]
            if not LABEL.fullmatch(spec.name):  # it becomes a folder's name
                raise StudyError(
                    f"study.{block}: a name may hold letters, digits, '.', '_' and '-' only; got "
                    f"'{spec.name}'. Give the network itself as `architecture`."
                )
            if training != study.usual_training and not spec.train:
                raise StudyError(f"{where}.training: '{spec.name}' is not trained here. Leave the key out.")
            if spec.expect is not None and (spec.train or role is Role.SURROGATE):
                raise StudyError(
                    f"{where}.expect: is for networks that are judged and come with trained weights. Leave "
                    "the key out."
                )
            if training.nodes != study.training.nodes:
                raise StudyError(
                    f"{where}.training.nodes: all networks must be trained on the same number of "
                    f"nodes; got {training.nodes}. Set it in study.training."
                )
        _refuse_twins(block, [spec.name for spec in specs], "name")


def _check_perturbations(study: Study) -> None:
    if not study.attacks:
        raise StudyError("study.perturbations must hold at least one attack; leave it out for the paper's.")
    items = (*study.requests, *filter(None, [study.matched_noise]))
    for item in items:
        if "clean" in (item.label, item.perturbation.role):
            raise StudyError(
                "study.perturbations: the label 'clean' is reserved for the unperturbed images, which are in "
                f"every study; got it for '{item.name}'. Choose another, or leave the item out."
            )
    _refuse_twins("perturbations", [item.label for item in items], "label")
    _check_curves(study.attacks)
    budgets = {item.ladder for item in study.requests} - {None}
    if len(budgets) > 1:
        raise StudyError(
            "study.perturbations: all rungs of the ladder have one budget; got "
            f"{', '.join(f'{budget:.4g}' for budget in sorted(filter(None, budgets)))}. Name it in `threats`."
        )


def _check_curves(attacks: Sequence[Request]) -> None:
    """Points that a study lists one by one must form a curve: they may differ only in their budgets."""
    for name in {attack.curve for attack in attacks} - {None}:
        points = [attack for attack in attacks if attack.curve == name]
        alike = [replace(point.with_budget(0.0), label="") for point in points]
        budgets = {point.parameters[str(point.perturbation.budget)] for point in points}
        if len(budgets) < len(points) or any(other != alike[0] for other in alike):
            raise StudyError(
                f"study.perturbations: the points of the curve '{name}' must be one attack with different "
                f"budgets, and may differ in nothing else; got {', '.join(point.label for point in points)}. "
                "Give others another `label` or `curve`."
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
    surrogates, judged = study.surrogates, {spec.name: spec for spec in study.specs}
    if surrogates.models == "others" and len(judged) < 2:
        raise StudyError(
            f"study.surrogates: with `others` every network attacks the others, and '{next(iter(judged))}' "
            "is the only one. Add a network, or write `surrogates: none` to attack it directly."
        )
    if surrogates.models is not None and surrogates.weights:
        said = surrogates.models if isinstance(surrogates.models, str) else "[...]"
        raise StudyError(
            f"study.surrogates.weights: with `models: {said}` no copy is made that could have weights; got "
            f"{', '.join(surrogates.weights)}. Leave one of the two out."
        )
    for name in surrogates.weights:
        if name not in judged:
            raise StudyError(f"study.surrogates.weights: {unknown('model', name, judged)}")
    for spec in study.surrogate_specs:
        twin = judged.get(spec.name, spec)
        if twin.architecture != spec.architecture:
            raise StudyError(
                f"study.surrogates.models.{spec.name}: has the name of a network of another architecture "
                f"({twin.architecture}, not {spec.architecture}), and tables could not tell them apart. Give "
                "it another name."
            )
    _refuse_repeated("surrogates", surrogates.seeds)
    if len(surrogates.seeds) > 1 and any(not spec.train for spec in study.surrogate_specs):
        raise StudyError(
            "study.surrogates.seeds: networks with weights of their own are the same for every seed. Give "
            "one seed, or train all surrogates here."
        )
    shared = sorted({*study.targets.seeds} & {*surrogates.seeds})
    if shared:
        raise StudyError(
            f"study.surrogates.seeds must differ from the targets' seeds (both have {shared[0]}), since a "
            "surrogate is trained independently. Choose another seed."
        )


def _refuse_repeated(block: str, seeds: Sequence[int]) -> None:
    if len(set(seeds)) < len(seeds):
        raise StudyError(f"study.{block}.seeds: give every seed only once; got {list(seeds)}.")


def _refuse_twins(where: str, names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise StudyError(f"study.{where}: '{name}' appears twice. Give one of them another `{key}`.")
