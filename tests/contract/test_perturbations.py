"""What DESIGN asks of every perturbation, run on every entry of the catalogue and every preset."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from medrobust.core import Task
from medrobust.metrics.similarity import linf
from medrobust.perturbations import PERTURBATIONS, Tally, perturb, request, requests
from medrobust.perturbations.contract import RULES, trial_of
from perturbation_cases import (
    CLASSES,
    FEW_STEPS,
    apply,
    ask,
    each_within_support,
    every,
    make_batch,
    make_network,
    make_rngs,
    plain,
    trial,
)


@every
def test_every_entry_keeps_the_contract(name, task, preset):
    """The rules that `medrobust check` applies to somebody's own."""
    tried = trial(name, task, preset)
    # A preset may stop before its budget is used up.
    rules = {rule: broken for rule, broken in RULES.items() if rule != "budget" or preset is None}
    assert {rule: says for rule, broken in rules.items() if (says := broken(tried))} == {}


@every
def test_a_run_folder_is_read_as_it_was_asked_for(name, task, preset):
    wanted = ask(name, task, preset)
    stored = json.loads(json.dumps(wanted.written))
    assert [each.written for each in requests(stored, task)] == [wanted.written]


@every
def test_modes_that_were_left_wrong_do_not_matter(name, task, preset):
    """Dropout and batch norm in training mode give what the network gives in evaluation mode."""
    tried = trial(name, task, preset)
    assert torch.equal(tried.run(copy.deepcopy(tried.network).train()), plain(name, task, preset))


@each_within_support
def test_nothing_changes_where_support_is_empty(name, task):
    tried = trial(name, task)
    nowhere = torch.zeros_like(tried.images[:, :1], dtype=torch.bool)
    assert torch.equal(replace(tried, support=nowhere).run(), tried.images)


@pytest.mark.parametrize(
    "name", [n for n, e in PERTURBATIONS.items() if e.role == "attack" and e.needs == "gradient"]
)
def test_where_there_is_no_gradient_images_stay_where_the_attack_begins(name):
    task = PERTURBATIONS[name].tasks[0]
    network = make_network(task)
    with torch.no_grad():
        network.body[0].weight.zero_()
    images, labels = make_batch(task, network)
    wanted = ask(name, task)
    if "random_start" in wanted.parameters:
        wanted = replace(wanted, parameters={**wanted.parameters, "random_start": False})
    result = perturb(wanted, network, images, labels, rngs=make_rngs(3))
    assert torch.equal(result, images)


@pytest.mark.parametrize(
    ("name", "task"),
    [(n, t) for n, e in PERTURBATIONS.items() if e.budget == "eps" and e.fits is None for t in e.tasks],
)
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.1])
def test_budget_is_kept_and_used(name, task, eps):
    network = make_network(task)
    images, labels = make_batch(task, network)
    wanted = trial_of(PERTURBATIONS[name], task, **FEW_STEPS.get(name, {}), eps=eps).request
    sizes = linf(images, apply(wanted, network, images, labels, rngs=make_rngs(3))).tolist()
    assert max(sizes) <= eps + 1e-6
    if name != "rays":  # which goes no farther than it has to
        assert sizes == pytest.approx([eps] * 3, abs=1e-6)


@pytest.mark.parametrize(
    "name", [n for n, entry in PERTURBATIONS.items() if entry.minimal and Task.CLASSIFICATION in entry.tasks]
)
def test_minimal_attacks_fool_images_and_keep_the_wrong_ones(name):
    task = Task.CLASSIFICATION
    network = make_network(task)
    images, labels = make_batch(task, network, n=8)
    labels[0] = (labels[0] + 1) % CLASSES
    tally = Tally()
    steps = {"steps": 3} if name == "hopskipjump" else {}  # which begins with images that fool
    result = perturb(
        request({"name": name, **steps}, task), network, images, labels, rngs=make_rngs(8), tally=tally
    )
    fooled = (network(result).argmax(1) != labels).float().mean()
    # Entries that only get darker cannot change every prediction of a network that averages.
    assert fooled >= (0.5 if name == "saliency_map" else 1)
    assert torch.equal(result[0], images[0])
    assert tally.steps[0] == 0
    assert (tally.steps[1:] > 0).all()
