"""Can the networks of a study be judged, attacked and trained? Asked before hours of work."""

from medrobust.errors import StudyError
from medrobust.models import Network, check_network, to_channels_last, weights_sha256
from medrobust.running.progress import Say
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.running.train import check_cases, check_training


def check_networks(setup: Setup, say: Say) -> None:
    """See that every network can be judged, attacked and, where it is trained here, trained.

    Each is shown a few made-up images, and differentiated as in a training step. No surrogate may be, or
    begin as, its target. `say` is told what was changed so that a network runs.

    Raises:
        DataError: There is too little to train a network on.
        ModelError: A network cannot be judged, attacked or trained.
        StudyError: A surrogate is its target, or begins as its target.
    """
    study, dataset = setup.study, setup.dataset
    if study.surrogates.models == "others":
        _require_different_targets(setup)
    for network in setup.trained_here:
        cases, validation = setup.training_cases(network), setup.fold(network).validation_cases
        check_cases(dataset, cases, validation, study.trainings[network.id.name], network.id)
    # Networks of further seeds and folds are made in the same way.
    for target in setup.targets[: len(study.specs)]:
        built = _built(setup, target)
        surrogate = next((each for each in setup.surrogates if each.id.name == target.id.name), None)
        if surrogate is not None:
            other = _built(setup, surrogate)
            if {*map(id, built.parameters())} & {*map(id, other.parameters())}:
                raise StudyError(
                    f"study.models.{target.id.name}: {target.spec.load} returns the same weights on every "
                    "call, so a network and its surrogate would be identical. Let it build a new network "
                    "each time."
                )
            if surrogate.spec != target.spec:  # else they are the same but for their random weights
                _check(setup, surrogate, other)
        _check(setup, target, built)
        if surrogate is not None:
            _require_apart(setup, target, surrogate)
        if built.note:
            say(f"models.{target.id.name}: {built.note}")


def _require_different_targets(setup: Setup) -> None:
    named: dict[str, str] = {}
    for target in setup.targets:
        if named.setdefault(target.digest, target.id.folder) != target.id.folder:
            raise StudyError(
                f"study.models: '{named[target.digest]}' and '{target.id.folder}' are the same network, so "
                "that an attack on one would be an attack on the other. Leave one of them out."
            )


def _check(setup: Setup, network: StudyNetwork, built: Network) -> None:
    dataset, name = setup.dataset, network.id.name
    check_network(
        built,
        name,
        task=setup.study.task,
        classes=len(dataset.classes),
        channels=dataset.channels,
        shape=tuple(dataset.shape),
    )
    if network.is_trained_here:
        check_training(built, dataset, setup.training_cases(network), setup.study.trainings[name], name)


def _built(setup: Setup, network: StudyNetwork) -> Network:
    """A network where it runs, untrained, or with the weights that the user brought."""
    if not network.is_trained_here:
        return setup.network(network)
    return to_channels_last(setup.fresh(network).to(setup.device))


def _require_apart(setup: Setup, target: StudyNetwork, surrogate: StudyNetwork) -> None:
    """See that a surrogate is not the target, and does not begin as a target that is trained already."""
    name = surrogate.id.name
    if not surrogate.is_trained_here:
        if surrogate.recipe == target.recipe:
            raise StudyError(
                f"study.surrogates.weights.{name}: holds the weights of the target itself, but a surrogate "
                "is trained apart from it. Give other weights, or leave the key out to train one."
            )
    elif not target.is_trained_here and weights_sha256(setup.fresh(surrogate)) == setup.weights_sha256(
        target
    ):
        raise StudyError(
            f"study.models.{name}: {target.spec.load} loads the trained weights itself, so a surrogate "
            "trained here would start as the target. Let it only build the network and name the file in "
            f"`weights`, or give a surrogate of your own in surrogates.weights.{name}."
        )
