"""Perturbations as a stranger writes them: some keep the contract, the others break one rule each."""

import random
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import nn

from medrobust.core import Task
from medrobust.perturbations import perturbation


def step_along_the_sign(model, images, labels, eps=0.03):
    """A plain function: no facts, no types, no support, and torch's own autograd."""
    images = images.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(images), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return (images + eps * gradient.sign()).clamp(0, 1)


def size(change):
    return change.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *[1] * (change.ndim - 1))


@perturbation(norms=("2",), source="nobody")
def steepest(model, images, labels, *, support=None, eps: Annotated[float, Gt(0), Le(10)] = 0.5):
    """An attack in the L2 norm."""
    leaf = images.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    if support is not None:
        gradient = torch.where(support, gradient, 0)
    return (images + eps * gradient / size(gradient)).clamp(0, 1)


@perturbation(norms=("1",), tasks=(Task.CLASSIFICATION,))
def one_entry(model, images, labels, *, support=None, eps: Annotated[float, Ge(0)] = 5.0):
    """An attack in the L1 norm, which goes into the steepest entry and stops at the range."""
    leaf = images.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    if support is not None:
        gradient = torch.where(support, gradient, 0)
    flat = gradient.flatten(1)
    at = flat.abs().argmax(1, keepdim=True)
    change = torch.zeros_like(flat).scatter(1, at, eps * flat.gather(1, at).sign())
    return (images + change.view_as(images)).clamp(0, 1)


@perturbation(needs="decisions", norms=("inf",), tasks=(Task.CLASSIFICATION,), minimal=False)
def guesses(model, images, labels, *, support=None, rngs, eps: float = 0.05, tries: int = 5):
    """Random search that sees decisions only, and stops as soon as one is wrong."""
    made = images.clone()
    for place, rng in enumerate(rngs):
        for _ in range(tries):
            change = torch.from_numpy(rng.uniform(-eps, eps, images[place].shape)).float()
            tried = (images[place] + change).clamp(0, 1)[None]
            if support is not None:
                tried = torch.where(support[place], tried, images[place])
            made[place] = tried[0]
            if model(tried).argmax(1) != labels[place]:
                break
    return made


@perturbation(needs="scores", norms=("inf",), uses_whole_budget=True)
def same_for_all(model, images, labels, *, support=None, eps: float = 0.05):
    """Everything brighter or darker, whichever has the larger loss: it uses up its budget."""
    losses = [
        nn.functional.cross_entropy(model((images + way).clamp(0, 1)), labels, reduction="none").flatten(1)
        if labels.ndim > 1
        else nn.functional.cross_entropy(model((images + way).clamp(0, 1)), labels, reduction="none")[:, None]
        for way in (eps, -eps)
    ]
    brighter = losses[0].sum(1) > losses[1].sum(1)
    way = torch.where(brighter, eps, -eps).view(-1, *[1] * (images.ndim - 1))
    made = (images + way).clamp(0, 1)
    return made if support is None else torch.where(support, made, images)


def blur(images, severity):
    """A corruption: the mean with the neighbours, as often as severe."""
    for _ in range(severity):
        images = (images + images.roll(1, -1)) / 2
    return images.clamp(0, 1)


def speckle(images, severity, rngs, scale: Annotated[float, Gt(0)] = 0.02):
    """A corruption that draws, with a parameter of its own."""
    drawn = np.stack([rng.standard_normal(images.shape[1:], dtype=np.float32) for rng in rngs])
    return (images * (1 + scale * severity * torch.from_numpy(drawn))).clamp(0, 1)


@perturbation(role="noise", needs="nothing", budget="amplitude")
def stripes(model, images, labels, *, amplitude: Annotated[float, Ge(0)] = 0.1):
    """Noise whose strength is called otherwise."""
    lines = torch.arange(images.shape[-1], device=images.device) % 2
    return (images + amplitude * lines).clamp(0, 1)


@perturbation(role="noise", needs="nothing", budget="level")
def grain(
    model, images, labels, *, support=None, rngs, level: Annotated[float, Ge(0), Le(2)], power: float = 1.0
):
    """Noise that is stronger where an image is brighter; its level has no default, and an upper end."""
    assert isinstance(level, float)
    drawn = np.stack([rng.standard_normal(images.shape[1:], dtype=np.float32) for rng in rngs])
    made = (images + level * images**power * torch.from_numpy(drawn)).clamp(0, 1)
    return made if support is None else torch.where(support, made, images)


SOUND = (
    "step_along_the_sign",
    "steepest",
    "one_entry",
    "guesses",
    "same_for_all",
    "blur",
    "speckle",
    "stripes",
    "grain",
)


@perturbation(role="noise", needs="nothing", budget="count")
def steps_only(model, images, labels, *, count: int = 3):
    """Noise whose strength is a whole number, which no SSIM can be solved for."""
    return (images + count / 255).clamp(0, 1)


def raises(model, images, labels):
    raise KeyError("no such layer")


def returns_nothing(model, images, labels):
    images.clone()


def returns_half(model, images, labels, eps=0.05):
    return (images + eps).clamp(0, 1).half()


def divides_by_nothing(model, images, labels, eps=0.05):
    return images / 0 * 0


def leaves_the_range(model, images, labels, eps=0.05):
    return images + eps


def writes_into_its_input(model, images, labels, eps=0.05):
    return images.add_(eps).clamp(0, 1)


def returns_its_input(model, images, labels, eps=0.05):
    return images


@perturbation()
def ignores_support(model, images, labels, *, support=None, eps=0.05):
    return (images + eps).clamp(0, 1)


def exceeds_its_budget(model, images, labels, eps=0.05):
    return (images + 2 * eps).clamp(0, 1)


@perturbation(uses_whole_budget=True)
def wastes_its_budget(model, images, labels, *, eps=0.05):
    return (images + eps / 2).clamp(0, 1)


def thaws_the_network(model, images, labels, eps=0.05):
    if isinstance(model, nn.Module):
        model.register_forward_hook(lambda *_: None)
    return (images + eps).clamp(0, 1)


def draws_globally(model, images, labels, eps=0.05):
    return (images + eps * torch.rand_like(images)).clamp(0, 1)


def draws_from_nowhere(model, images, labels, eps=0.05):
    drawn = np.random.default_rng().random(images.shape, dtype=np.float32)
    return (images + eps * torch.from_numpy(drawn)).clamp(0, 1)


def draws_from_python(model, images, labels, eps=0.05):
    return (images + eps * random.random()).clamp(0, 1)


def seeds_python(model, images, labels, eps=0.05):
    random.seed(0)
    return (images + eps * random.random()).clamp(0, 1)


def averages_over_the_batch(model, images, labels, eps=0.05):
    brightness = images.flatten(1).mean(1)
    darker = (brightness > brightness.mean()).view(-1, *[1] * (images.ndim - 1))
    return (images + torch.where(darker, -eps, eps)).clamp(0, 1)


def needs_two(model, images, labels, eps=0.05):
    assert len(images) > 1, "at least two"
    return (images + eps).clamp(0, 1)


@perturbation(needs="decisions")
def hides_its_gradient(model, images, labels, *, eps=0.05):
    return step_along_the_sign(model, images, labels, eps)


@perturbation(needs="decisions")
def looks_at_scores(model, images, labels, *, eps=0.05):
    logits = model(images).flatten(1)
    way = eps * torch.tanh(logits[:, :1]).view(-1, *[1] * (images.ndim - 1))
    return (images + way).clamp(0, 1)


def fails_on_flat_networks(model, images, labels, eps=0.05):
    leaf = images.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    return (images + eps * gradient / gradient.abs().amax()).clamp(0, 1)


def greys_only(model, images, labels, eps=0.05):
    return (images + eps * torch.ones(1, 14, 14)).clamp(0, 1)


@perturbation(budget="radius")
def forgets_its_budget(model, images, labels, *, eps=0.05):
    return (images + eps).clamp(0, 1)


def wants_more(model, images, labels, layer, eps=0.05):
    return (images + eps).clamp(0, 1)


def moves_pixels_only(images, labels, severity):
    return images.flip(-1), labels.clone(), torch.ones_like(images[:, 0], dtype=torch.bool)


def forgets_what_is_valid(images, labels, severity):
    return images.flip(-1), labels.clone()


BROKEN = {
    "moves_pixels_only": (
        "moves",
        "It moves labels otherwise than pixels. Move both by the same coordinates.",
    ),
    "forgets_what_is_valid": ("runs", "It must return (images, labels, valid), got tuple."),
    "raises": ("runs", "It fails on images of shape (3, 1, 14, 14): KeyError: 'no such layer'"),
    "returns_nothing": ("runs", "It must return torch.float32 images of shape (3, 1, 14, 14), got NoneType."),
    "returns_half": ("runs", "must return torch.float32 images of shape (3, 1, 14, 14), got torch.float16"),
    "divides_by_nothing": ("finite", "NaN or infinite"),
    "leaves_the_range": ("range", "leaves [0, 1]: it returns values from 0.05"),
    "writes_into_its_input": ("inputs", "changes the images that it is given"),
    "returns_its_input": ("inputs", "returns the very images that it is given"),
    "ignores_support": ("support", "changes pixels outside of `support`"),
    "exceeds_its_budget": ("budget", "With eps = 0.01 it changes an image by 0.02 in the Linf norm"),
    "wastes_its_budget": ("budget", "changes an image by only 0.005 in the Linf norm"),
    "thaws_the_network": ("network", "leaves the network changed: hooks"),
    "draws_globally": ("randomness", "uses or sets the global random state. Draw from `rngs`"),
    "draws_from_nowhere": ("randomness", "results differ from call to call. Draw from `rngs`"),
    "draws_from_python": ("randomness", "results differ from call to call. Draw from `rngs`"),
    "seeds_python": ("randomness", "uses or sets the global random state. Draw from `rngs`"),
    "averages_over_the_batch": ("alone", "An image alone is changed differently than in a batch"),
    "needs_two": ("alone", "It fails on images of shape (1, 1, 14, 14): AssertionError: at least two"),
    "hides_its_gradient": ("needs", "declared to need decisions of the network, but fails without more"),
    "looks_at_scores": ("needs", "declared to need decisions of the network, but returns something else"),
    "fails_on_flat_networks": ("flat", "Where the network's gradient is 0, it returns no images"),
    "greys_only": ("shapes", "Images may have any size and number of channels"),
    "forgets_its_budget": ("facts", "budget: is declared to be 'radius', which is not among its parameters"),
    "wants_more": ("facts", "perturbations.tried.layer: this key is required"),
}
"""The rule that each breaks, and what is said of it."""
