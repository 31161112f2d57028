"""For networks and images in a notebook: attack a network, or take several to a report."""

import copy
import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from medrobust.api.runs import Run
from medrobust.api.studies import run
from medrobust.core import Dataset, Task
from medrobust.data import as_dataset, open_dataset
from medrobust.errors import StudyError
from medrobust.metrics.similarity import l0, l2, linf, mean_over, mse, ssim_map
from medrobust.models import Network, weights_sha256
from medrobust.perturbations import PERTURBATIONS, aimed, perturb, request, targets_of
from medrobust.perturbations.checks import task_of
from medrobust.perturbations.gradients import frozen, predict
from medrobust.perturbations.request import as_mapping
from medrobust.rng import generator
from medrobust.running.craft import fraction_fooled
from medrobust.study.config import PAPER_ATTACKS

Body = nn.Module | Callable[[Tensor], object]
"""A module, or a function, from images `n c *space` in [0, 1] to logits."""

Attack = str | Mapping[str, Any] | Callable[..., Tensor]
"""The name of an attack, an entry as in a study (`{"name": "pgd", "steps": 40}`), or one's own function."""

EPS = 2 / 255
"""Budget of an attack that is named without one: twice the smallest step of 8 bits."""

ASKED = 4
"""Number of images whose logits distinguish networks with the same weights but different code."""
MORE = 16
"""How many times as many decisions do."""


@dataclass(frozen=True)
class Attacked:
    """Images after an attack, and what is measured of each; every tensor lies where the images were.

    Attributes:
        images: The attacked images `n c *space`, float32 in [0, 1].
        success: Whether the network is fooled: its class is wrong, or any finding or pixel that was attacked.
        fooled: How far it does what the attack wanted, in [0, 1]: the fraction of wrong labels or, with
            targets, of the pixels with target != truth that are shown as the target.
        l0: Number of changed pixels.
        l2: Euclidean norm of the change.
        linf: Largest change of a value.
        mse: Mean squared change.
        ssim: Structural similarity to the clean image, over the support.
    """

    images: Tensor
    success: Tensor
    fooled: Tensor
    l0: Tensor
    l2: Tensor
    linf: Tensor
    mse: Tensor
    ssim: Tensor


def attack(
    network: Body,
    images: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    attack: Attack = "fgsm",
    *,
    support: Tensor | np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    **parameters: Any,
) -> Attacked:
    """Attack a network, and measure what that does to each image.

    The network is attacked where its weights lie, in evaluation mode, and is left as it was.

    Args:
        network: From images to logits; `medrobust.Network` says how images go in and how logits come out.
        images: Images `n c *space`, floats in [0, 1].
        labels: True classes `n`, findings `n findings` (1: present, 0: absent, -1: not known), or in
            segmentation `n *space`.
        attack: Name of an attack (`medrobust list perturbations`), an entry as in a study, or a function
            `(model, images, labels, *, support, rngs, **parameters) -> images`.
        support: Where images may change, `n 1 *space`; None: everywhere.
        spacing: Size of a pixel in mm along each spatial axis, for targets that have a size.
        seed: Of the random draws; those of an image depend on it and on the image's position only.
        batch_size: Images that are attacked together.
        parameters: Of the attack, e.g. `eps=4/255, steps=10`, and `preset`; `finding=3` attacks one finding
            only. A budget that is not given is 2/255.

    Raises:
        StudyError: There is no such attack, preset or parameter, or a value is out of range.
        ModelError: The network fails, or cannot be differentiated.
        ValueError: The images, labels or support do not fit.

    Example:
        >>> attacked = mr.attack(network, images, labels, "pgd", eps=2 / 255)  # doctest: +SKIP
        >>> attacked.success.float().mean(), attacked.ssim.mean()  # doctest: +SKIP
    """
    clean, truth = torch.as_tensor(images), torch.as_tensor(labels)
    if not len(clean) or truth.shape[:1] != clean.shape[:1]:
        raise ValueError(
            f"labels: {len(clean)} images need as many labels, and at least one; got {len(truth)}."
        )
    mask = None if support is None else torch.as_tensor(support)
    task = task_of(truth)
    wanted = request(_with_budget(as_mapping(attack) | parameters), task)
    model = network if isinstance(network, Network) else Network(network)
    if task is Task.MULTILABEL:
        model = copy.copy(model)  # which shares its weights; the one that was given stays as it is
        model.findings = True
    names = [str(place) for place in range(truth.shape[1])] if task is Task.MULTILABEL else []
    weight = next(model.body.parameters(), None)
    device = clean.device if weight is None else weight.device
    model.to(device)
    parts: list[dict[str, Tensor]] = []
    batch_size = batch_size if wanted.perturbation.fits is None else len(clean)  # one change for all of them
    for start in range(0, len(clean), batch_size):
        part = slice(start, start + batch_size)
        before, classes = clean[part].to(device, torch.float32), truth[part].to(device, torch.int64)
        where = None if mask is None else mask[part].to(device)
        rngs = [generator(seed, wanted.name, index) for index in range(start, start + len(before))]
        classes = aimed(wanted, classes, names)
        targets = targets_of(wanted, classes, rngs, spacing)
        with frozen(model):
            after = perturb(
                wanted, model, before, classes, support=where, rngs=rngs, spacing=spacing, targets=targets
            )
            fooled = fraction_fooled(predict(model, after).argmax(1), classes, targets)
        parts.append(
            {
                "images": after,
                "success": fooled > 0,
                "fooled": fooled,
                "l0": l0(before, after),
                "l2": l2(before, after),
                "linf": linf(before, after),
                "mse": mse(before, after),
                "ssim": mean_over(ssim_map(before, after), where),
            }
        )
    return Attacked(**{name: torch.cat([part[name] for part in parts]).to(clean.device) for name in parts[0]})


def evaluate(
    networks: Mapping[str, Body | Mapping[str, Any]],
    data: Any,
    *,
    patients: Iterable[object] | None = None,
    scans: Iterable[object] | None = None,
    classes: Sequence[str] | None = None,
    spacing: Sequence[float] | None = None,
    regions: Mapping[str, str | list[str]] | None = None,
    attacks: Sequence[Attack] | None = None,
    noise: Attack | None = None,
    surrogates: str | Mapping[str, Body | Mapping[str, Any]] | Sequence[Body] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    console: Console | None = None,
    **study: Any,
) -> Run:
    """Take trained networks and a test set to a report: clean, noisy and adversarial scores, with intervals.

    Nothing is trained, and all of the data are test data: the networks must not have seen them.

    Args:
        networks: The networks to judge, by the names that tables use. Each is a module or a function from
            images to logits, a `medrobust.Network`, or what stands under `models:` in a study. They are
            copied, and stay as they are.
        data: A tuple `(images, labels)` of tensors or arrays: images `n c *space` in [0, 1], labels `n`
            (classification), `n findings` of 0 and 1 (multilabel; -1: not known) or `n *space`
            (segmentation; -1: not labelled), or masks that may overlap, booleans `n k *space`. Or a torch
            Dataset or DataLoader of such pairs, a `medrobust.core.Dataset`, or what stands under `data:` in a
            study.
        patients: Of each image. Intervals are over patients; without them over images, and may be too narrow.
        scans: Of each image, in segmentation: the slices of a scan add up before a score is taken.
        classes: Names of the classes, of the findings, or of the structures that have masks.
        spacing: Size of a pixel in mm along each spatial axis.
        regions: In segmentation, structures that are unions of classes and are scored in their place, e.g.
            `{"whole tumour": ["oedema", "core"], "core": "core"}`.
        attacks: Names, entries as in a study, or functions of one's own. Default: the paper's three. A budget
            that is not given is 2/255.
        noise: The control: name, entry or function of the noise that is matched to every attack; `{}` leaves
            it out. Default: the paper's.
        surrogates: Networks of any architecture, trained apart from those that are judged, on which attacks
            are crafted: by name, or a list. "others": attacks on every network are transferred to all others.
            "none": each network is attacked itself only (white box), and nothing is said about transferred
            attacks. Default: others, or none for a single network.
        out: The run folder; a folder with finished work is resumed. Default: a temporary one, which is
            removed together with the `Run`.
        device: "cpu", "cuda", "cuda:1" or "mps"; "auto" takes the best available, or the CPU where a network
            is a plain function.
        console: Where progress is shown. Default: nowhere.
        study: Further keys of a study, e.g. `seed=1`, `cases={"per_patient": 16}`,
            `analysis={"resamples": 2000}`, `threats={"eps": "2/255"}`.

    Returns:
        The run: `.table1()`, `.table2()`, and `.report`, the path of report.html.

    Raises:
        DataError: The data break a rule; the message names it.
        ModelError: A network cannot be judged or attacked.
        StudyError: A key, name or value is impossible.

    Example:
        >>> run = mr.evaluate({"a": a, "b": b}, (images, labels), patients=patients)  # doctest: +SKIP
        >>> print(run.table1(), run.report)  # doctest: +SKIP
    """
    if not networks:
        raise StudyError("networks: must hold at least one network; got none.")
    if isinstance(surrogates, str) and surrogates not in ("others", "none"):
        raise StudyError(f"surrogates: must be networks, 'others' or 'none', got {surrogates!r}.")
    if surrogates is None or isinstance(surrogates, str):
        own: Mapping[str, Any] = {}
    elif isinstance(surrogates, Mapping):
        own = surrogates
    else:
        own = {f"surrogate{number}": each for number, each in enumerate(surrogates, 1)}
    folder = Path(tempfile.mkdtemp(prefix="medrobust-")) if out is None else Path(out)
    try:
        task = Task(study["task"]) if study.get("task") in list(Task) else None
        dataset = _dataset(
            data,
            folder,
            task,
            patients=patients,
            scans=scans,
            classes=classes,
            spacing=spacing,
            regions=None if regions is None else dict(regions),
        )
        asked: dict[str, Any] = {
            "task": dataset.task,
            "split": {"test": "all"},
            "models": [_model("networks", name, network, dataset) for name, network in networks.items()],
            "surrogates": {
                "models": [_model("surrogates", name, each, dataset) for name, each in own.items()]
                or surrogates
                or ("others" if len(networks) > 1 else "none")
            },
            **study,
        }
        named = PAPER_ATTACKS[dataset.task] if attacks is None else attacks
        asked["perturbations"] = [_with_budget(as_mapping(each)) for each in named]
        if noise is not None:
            asked["noise"] = as_mapping(noise)
        bodies = (*networks.values(), *own.values())
        functions = any(callable(each) and not isinstance(each, nn.Module) for each in bodies)
        finished = run(
            asked,
            folder,
            device="cpu" if device == "auto" and functions else device,
            console=console,
            dataset=dataset,
        )
    except BaseException:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if out is None:
        weakref.finalize(finished, shutil.rmtree, folder, ignore_errors=True)
    return finished


def _dataset(data: Any, folder: Path, task: Task | None, **options: Any) -> Dataset:
    if isinstance(data, Mapping) and ("name" in data or "load" in data):
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise StudyError(f"{given[0]}: the data set of `data` says this itself. Leave the argument out.")
        return open_dataset(dict(data), folder / "cache", None, task=task)
    return as_dataset(data, **options)


def _with_budget(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with a budget, since there are no validation cases to solve it on."""
    known = PERTURBATIONS.get(entry.get("name", ""))
    if known is None or known.budget is None or known.severities or "preset" in entry:
        return entry
    return {known.budget: EPS, **entry}


def _model(block: str, name: str, given: Body | Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """An entry of `models:`."""
    entry = dict(given) if isinstance(given, Mapping) else {"load": given}
    load = entry.get("load")
    if callable(load):
        network = load if isinstance(load, Network) else Network(load)
        network.recipe["identity"] = _identity(network, dataset)
        return {**entry, "name": name, "load": network}
    if not isinstance(given, Mapping):
        raise StudyError(
            f"{block}.{name}: must be a module, a function from images to logits, or an entry as under "
            f"`models:` in a study; got {type(given).__name__}."
        )
    return {"train": False, **entry, "name": name}


def _identity(network: Network, dataset: Dataset) -> str:
    """SHA-256 of the weights and of the answers to a few images, by which finished work is found again.

    Networks of decisions often decide alike, and are asked about more images, and about mixtures of two,
    which lie nearer to their boundaries.
    """
    digest = hashlib.sha256(weights_sha256(network.body).encode())
    decides = network.output.kind == "decisions"
    cases = dataset.cases[: ASKED * (MORE if decides else 1)]
    images = torch.from_numpy(np.stack([dataset.read(case).image for case in cases]))
    if decides:
        images = torch.cat([torch.lerp(images, images.roll(1, 0), share) for share in (0, 0.25, 0.5)])
    weight = next(network.body.parameters(), images)
    # Whatever a network raises here is reported by `check_network` later.
    with suppress(Exception), torch.no_grad(), frozen(network):
        network.to(weight.device)
        for part in torch.split(images.to(weight.device), ASKED):
            if decides:
                answers = network.returned(part).long()
            else:
                logits = network(part).cpu()
                answers = logits.reshape(*logits.shape[:2], -1).mean(-1).to(torch.float16)
            digest.update(answers.cpu().numpy().tobytes())
    return digest.hexdigest()
