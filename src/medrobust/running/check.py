"""Can the networks of a study be judged, attacked and trained? Asked before hours of work."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from medrobust.core import NetworkId
from medrobust.errors import StudyError
from medrobust.metrics.catalogue import SCORES
from medrobust.models import Network, check_network, have_same_features, say_the_same, to_channels_last
from medrobust.models.spec import is_of_imagenet
from medrobust.running.batches import at_once, evenly_spaced, stack
from medrobust.running.plan import make_plan
from medrobust.running.progress import Say
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.running.train import check_cases, check_training
from medrobust.study.analysis import primary_score

TRIED = 8
"""Images of the study that every network is tried on."""


def check_networks(setup: Setup, say: Say) -> None:
    """See that every network can be judged, attacked and, where it is trained here, trained.

    Each is shown a few images, made up and real, and differentiated as in a training step. No source may be,
    or begin as, a network that it attacks. `say` is told what was changed so that a network runs.

    Raises:
        DataError: There is too little to train a network on.
        ModelError: A network cannot be judged, attacked or trained.
        StudyError: A source is its target, or begins as its target; or nothing can be attacked.
    """
    study, dataset = setup.study, setup.dataset
    for network in setup.trained_here:
        cases, validation = setup.training_cases(network), setup.fold(network).validation_cases
        check_cases(dataset, cases, validation, study.trainings[network.id.role, network.id.name], network.id)
    some = evenly_spaced(setup.all_cases, max(2, at_once(TRIED, dataset.shape)))
    images = stack(dataset, some, setup.device).images
    # Networks of further seeds and folds are made in the same way.
    targets = {each: _built(setup, each) for each in setup.targets[: len(study.specs)]}
    surrogates = {each: _built(setup, each) for each in setup.surrogates[: len(study.surrogate_specs)]}
    _refuse_shared_weights(targets | surrogates)
    for network, built in (targets | surrogates).items():
        if network in targets or network.spec not in study.specs:  # a copy differs by its random weights only
            _check(setup, network, built, images)
            for sentence in built.assumed:
                block = "models" if network in targets else "surrogates"
                say(f"{block}.{network.id.name}: {sentence}")
    _require_apart(setup, targets, surrogates or targets, images)
    _require_attacks(setup)


def _check(setup: Setup, network: StudyNetwork, built: Network, images: Float[Tensor, "n c *space"]) -> None:
    dataset, study, name = setup.dataset, setup.study, network.id.name
    check_network(
        built,
        name,
        task=study.task,
        classes=len(dataset.classes),
        images=images,
        attackable=setup.has_gradient(network),
    )
    score = primary_score(study.analysis.score, study.task)
    if built.output.kind == "decisions" and "probabilities" in score.columns:
        able = [each for each, of in SCORES.items() if study.task in of.tasks and "predictions" in of.columns]
        raise StudyError(
            f"study.analysis.score: {score.heading} is of probabilities, and {name} gives decisions only. "
            f"Choose {', '.join(able)}, or leave the network out."
        )
    if network.is_trained_here:
        training = study.trainings[network.id.role, name]
        check_training(built, dataset, setup.training_cases(network), training, name)


def _built(setup: Setup, network: StudyNetwork) -> Network:
    """A network where it runs, untrained, or with the weights that the user brought."""
    if not network.is_trained_here:
        return setup.network(network)
    return to_channels_last(setup.fresh(network).to(setup.device))


Built = Mapping[StudyNetwork, Network]


def _refuse_shared_weights(built: Built) -> None:
    owners: dict[int, NetworkId] = {}
    for network, body in built.items():
        for weight in body.parameters():
            owner = owners.setdefault(id(weight), network.id)
            if owner != network.id:
                raise StudyError(
                    f"study.models.{owner.name}: {network.spec.load} returns the same weights on every call, "
                    f"so '{owner.folder}' and '{network.id.folder}' would be one network. Let it build a new "
                    "network each time."
                )


def _require_apart(setup: Setup, targets: Built, sources: Built, images: Float[Tensor, "n c *space"]) -> None:
    """See that no source is, or begins as, a network that is trained already and that it attacks.

    Told by what they say of a few images: two files may hold the same weights in different words, and layers
    that nothing uses may differ. A new last layer on trained features is told by the features.
    """
    if setup.study.surrogates.models == "none":
        return
    answers = {
        each: _answers(body, images)
        for each, body in {**targets, **sources}.items()
        if each.spec.output.kind != "decisions"  # different networks may well decide alike about a few images
    }
    for target in targets:
        for source in sources:
            if target.is_trained_here or source is target or not {source, target} <= answers.keys():
                continue
            if say_the_same(answers[source], answers[target]):
                raise StudyError(_same_network(source, target))
            apart = source in targets or is_of_imagenet(source.spec.weights)
            if not apart and have_same_features(sources[source], targets[target], images):
                raise StudyError(
                    f"study.models.{target.id.name}: '{source.id.folder}' begins with the trained features "
                    f"of '{target.id.folder}' under another last layer, so the attacker would know the "
                    f"network. {_ADVICE}"
                )


_ADVICE = (
    "Let `load` only build the network and name the file in `weights`, or choose other surrogates: "
    "`surrogates: {models: [...]}`."
)


def _same_network(source: StudyNetwork, target: StudyNetwork) -> str:
    if source.is_trained_here:
        return (
            f"study.models.{target.id.name}: {target.spec.architecture} loads the trained weights itself, so "
            f"'{source.id.folder}', which is trained here, would begin as the target. {_ADVICE}"
        )
    return (
        f"study: '{target.id.folder}' and '{source.id.folder}' are the same network: they say the same of "
        "all images that were tried. An attack on one would be an attack on the other. Leave one of them "
        "out, or give other weights."
    )


@torch.inference_mode()
def _answers(network: Network, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *maps"]:
    logits: Tensor = network(images)
    return logits.float().cpu()


def _require_attacks(setup: Setup) -> None:
    """See that every attack can be crafted on some network that it is meant for."""
    crafted = {(images.perturbation, images.role) for images in make_plan(setup).attacks}
    for attack in setup.study.attacks:
        direct = not setup.sources or attack.crafted_on == "targets"
        if (attack.label, "whitebox" if direct else "transfer") in crafted:
            continue
        asked = setup.targets if direct else setup.sources
        names = ", ".join(dict.fromkeys(each.id.name for each in asked))
        if attack.ladder is not None:
            raise StudyError(
                f"threats: {attack.label} asks for the {attack.perturbation.needs} of {names}, which cannot "
                "be had. Name the rungs that these networks can face, such as `threats: {preset: null, "
                "attacks: [random_signs, rays, square]}`; square asks for scores, rays for decisions."
            )
        if attack.perturbation.needs == "scores":
            raise StudyError(
                f"study.perturbations.{attack.label} asks for scores, and there are only decisions of "
                f"{names}. Leave it out, or take one that needs no more: rays, hopskipjump."
            )
        why = f"study.perturbations.{attack.label} follows a gradient, and {names} has none to follow. "
        if direct and setup.sources:
            raise StudyError(f"{why}Leave it out, or take one that needs none: square, rays, hopskipjump.")
        able = [each.id.name for each in setup.targets if setup.is_attackable(attack, each)]
        instead = " Or write `surrogates: none`, which attacks each network directly and ranks nothing."
        raise StudyError(
            f"{why}Craft it on networks that have one, in `surrogates: {{models: [...]}}`: `{{name: "
            "resnet18}` is trained here if the split has training patients; with `load` and `weights` it is "
            f"one that you have trained.{instead if setup.sources and able else ''}"
        )
