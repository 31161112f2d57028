"""Which images and networks every perturbation takes, and what it says to others."""

import pytest
import torch

from medrobust.errors import ModelError
from medrobust.parameters import accepted
from medrobust.perturbations import PERTURBATIONS
from perturbation_cases import (
    apply,
    ask,
    each,
    each_within_support,
    every,
    left_half,
    make_batch,
    make_network,
    make_rngs,
    trial,
)


@each
@pytest.mark.parametrize(
    ("channels", "space", "classes"), [(3, (11, 17), 2), (1, (5, 6, 7), 3), (2, (13, 12), 3)]
)
def test_any_channels_size_and_dimension(name, task, channels, space, classes):
    shape = {"channels": channels, "dimensions": len(space), "classes": classes}
    network = make_network(task, **shape)
    images, labels = make_batch(task, network, n=2, channels=channels, space=space)
    if PERTURBATIONS[name].misfit(channels, len(space)):
        with pytest.raises(ValueError, match=f"images: {name} "):
            apply(ask(name, task), network, images, labels, rngs=make_rngs(2))
        return
    result = apply(ask(name, task), network, images, labels, rngs=make_rngs(2))
    assert result.shape == images.shape
    assert result.isfinite().all()


@each_within_support
def test_images_that_show_nothing_and_have_no_label(name, task):
    """As slices between two parts of a scan; one of them has no pixel that may change."""
    network = make_network(task)
    images, labels = make_batch(task, network)
    images[0], images[1] = 0, 0.5
    support = torch.ones_like(images[:, :1], dtype=torch.bool)
    support[0] = False
    nothing = torch.zeros_like(labels)
    result = apply(ask(name, task), network, images, nothing, support=support, rngs=make_rngs(3))
    assert result.isfinite().all()
    assert 0 <= result.min() <= result.max() <= 1
    assert torch.equal(result[0], images[0])


@each
def test_memory_layout_does_not_matter(name, task):
    network = make_network(task, channels=3)
    images, labels = make_batch(task, network, channels=3)
    plain = apply(ask(name, task), network, images, labels, rngs=make_rngs(3))
    forms = [
        (images.to(memory_format=torch.channels_last), labels),
        (images.mT.contiguous().mT, labels.mT.contiguous().mT if labels.ndim > 1 else labels),
        (images.repeat_interleave(2, 0)[::2], labels.repeat_interleave(2, 0)[::2]),
    ]
    for same, same_labels in forms:
        assert close(apply(ask(name, task), network, same, same_labels, rngs=make_rngs(3)), plain)
    network = network.to(memory_format=torch.channels_last)
    assert close(apply(ask(name, task), network, images, labels, rngs=make_rngs(3)), plain)


def close(result, plain):
    """But for entries whose gradient is about zero, which rounding may turn."""
    return ((result - plain).abs() > 1e-4).float().mean() <= 0.01


@every
def test_reduced_precision_of_the_network_gives_whole_images(name, task, preset):
    """What `autocast: true` does, on the CPU: the network computes in bfloat16, the images are float32."""
    tried = trial(name, task, preset)
    network, images, labels = tried.network, tried.images, tried.labels
    seen = []
    network.body[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    support = left_half(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = apply(tried.asked, network, images, labels, support=support, rngs=make_rngs(3))
    assert set(seen) <= {torch.bfloat16}
    assert bool(seen) == (PERTURBATIONS[name].role in ("attack", "transform") and preset != "random")
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1
    if PERTURBATIONS[name].role not in ("corruption", "transform"):
        assert not ((result != images) & ~support).any()


BAD_INPUTS = [
    (lambda x, y: (x.half(), y), "images: must be float32, got torch.float16"),
    (lambda x, y: (x * 255, y), r"images: must be finite and lie in \[0, 1\], got values from .* to 2"),
    (lambda x, y: (x.where(x < 0.9, torch.nan), y), "images: must be finite"),
    (lambda x, y: (x[0], y), "images: must have the shape"),
    (lambda x, y: (x[:0], y[:0]), "nothing empty"),
    (lambda x, y: (x, y.float()), "labels: must be int64"),
    (lambda x, y: (x, y[:-1]), r"labels: must have the shape \(3,\)"),
    (lambda x, y: (x, y - 9), r"labels: must be class numbers from 0 on.*, got -"),
]


@each
def test_wrong_input_says_what_to_do(name, task):
    network = make_network(task)
    images, labels = make_batch(task, network)
    for change, message in BAD_INPUTS:
        with pytest.raises(ValueError, match=message):
            call(name, task, network, *change(images, labels))


@each_within_support
def test_wrong_support_says_what_to_do(name, task):
    network = make_network(task)
    images, labels = make_batch(task, network)
    for support in (images[:, :1], left_half(images)[:2], left_half(images)[:, 0]):
        with pytest.raises(
            ValueError, match=r"support: must be a bool tensor of shape \(3, 1, 14, 14\); got"
        ):
            call(name, task, network, images, labels, support=support)


@pytest.mark.parametrize("name", [n for n, entry in PERTURBATIONS.items() if entry.role == "attack"])
def test_a_network_that_does_not_fit_is_refused(name):
    task = PERTURBATIONS[name].tasks[0]
    network = make_network(task)
    images, labels = make_batch(task, network)
    with pytest.raises(ValueError, match=r"labels: the network has 4 classes, 0 to 3, got 9"):
        call(name, task, network, images, labels + 9 - labels.max())
    for broken, message in [
        (lambda x: network(x)[:, :1], "one logit"),
        (lambda x: network(x)[:1], "logits of shape"),
        (lambda x: network(x) * torch.nan, "non-finite"),
    ]:
        with pytest.raises(ModelError, match=message):
            call(name, task, broken, images, labels)


def call(name, task, network, images, labels, support=None):
    """The function itself, with targets that fit whatever the images and labels are."""
    wanted = ask(name, task)
    entry = PERTURBATIONS[name]
    parameters = {
        key: value for key, value in wanted.parameters.items() if key in ("eps", "strength", "steps")
    }
    if entry.role == "corruption":
        parameters = wanted.parameters
    if entry.targets:
        parameters["targets"] = torch.zeros_like(labels)
    given = accepted(entry.function, {"support": support, "rngs": make_rngs(3)})
    return entry.function(network, images, labels, **given, **parameters)
