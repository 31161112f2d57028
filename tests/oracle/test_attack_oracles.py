"""Attacks on models whose answer is known in closed form."""

import pytest
import torch
from torch import nn

from affine_networks import Affine, scored
from medrobust.metrics.similarity import l0, l2, linf
from medrobust.perturbations import Tally, dag, deepfool, fgsm, saliency_map
from medrobust.rng import generator

OVERSHOOT = 0.02


@pytest.mark.parametrize("classes", [2, 3, 8])
@pytest.mark.parametrize(
    ("options", "overshoot", "least"),
    [
        ({"preset": "moosavi-2016"}, 0.02, 1e-4),
        ({"preset": "foolbox-0.8"}, 0.05, 0),
        ({"trials": 0, "candidates": None}, 0.02, 1e-4),
    ],
)
def test_deepfool_is_the_projection(classes, options, overshoot, least):
    model = Affine(classes)
    images, labels = model.batch()
    distance, rival = model.distances(2)
    tally = Tally()
    result = deepfool(model, images, labels, tally=tally, **options)
    assert torch.equal(model(result).argmax(1), rival)
    assert torch.allclose(l2(images, result), (1 + overshoot) * (distance + least), rtol=1e-4)
    assert (tally.steps == 1).all()


@pytest.mark.parametrize(("norm", "measure", "dual"), [("2", l2, 2), ("inf", linf, 1)])
@pytest.mark.parametrize("classes", [2, 5])
def test_deepfool_comes_back_to_the_projection(classes, norm, measure, dual):
    """An overshoot of half the way there is cut down to one of a hundredth."""
    model = Affine(classes)
    images, labels = model.batch()
    distance, rival = model.distances(dual)
    result = deepfool(model, images, labels, norm=norm, overshoot=0.5)
    assert torch.equal(model(result).argmax(1), rival)
    assert torch.allclose(measure(images, result), 1.01 * distance, rtol=2e-3)


def test_deepfool_in_the_largest_norm():
    model = Affine()
    images, labels = model.batch()
    distance, rival = model.distances(1)
    result = deepfool(model, images, labels, norm="inf", trials=0)
    assert torch.equal(model(result).argmax(1), rival)
    assert torch.allclose(linf(images, result), (1 + OVERSHOOT) * (distance + 1e-4), rtol=1e-3)


def test_deepfool_looks_at_the_candidates_only():
    model = Affine(8)
    images, labels = model.batch()
    runner_up = model(images).topk(2).indices[:, 1]
    result = deepfool(model, images, labels, candidates=2)
    assert torch.equal(model(result).argmax(1), runner_up)


def test_deepfool_on_a_support_is_the_projection_within_it():
    model = Affine(2)
    images, labels = model.batch()
    support = torch.zeros(12, 1, 6, 7, dtype=torch.bool)
    support[:, :, :3] = True
    normal = (model.weight[0] - model.weight[1]).view(1, 2, 6, 7).detach() * support[:1]
    logits = model(images).detach()
    distance = (logits[:, 0] - logits[:, 1]).abs() / normal.norm()
    result = deepfool(model, images, labels, support=support, trials=0)
    assert (model(result).argmax(1) != labels).all()
    assert torch.allclose(l2(images, result), (1 + OVERSHOOT) * (distance + 1e-4), rtol=1e-4)


@pytest.mark.parametrize("norm", ["2", "inf"])
def test_deepfool_ends_at_the_nearest_point_inside_of_the_range(norm):
    """Half of the entries are black or white, and most steep ones end at 0 or 1 on the way."""
    draw = torch.Generator().manual_seed(0)
    images = (3 * torch.rand(6, 1, 8, 8, generator=draw) - 1).clamp(0, 1)
    weights = torch.randn(1, 1, 8, 8, generator=draw) ** 3
    room = torch.where(weights > 0, 1 - images, images)
    value = (images * weights).sum((1, 2, 3))
    rise = 0.5 * (room * weights.abs()).sum((1, 2, 3))
    support = torch.ones_like(images, dtype=torch.bool)
    for place in range(6):
        one = slice(place, place + 1)
        model = scored(weights, (value + rise)[place])
        result = deepfool(model, images[one], torch.tensor([0]), norm=norm, support=support[one], trials=12)
        assert model(result).argmax(1) == 1
        low, high = 0.0, 1e4
        for _ in range(100):
            middle = (low + high) / 2
            pace = weights.abs().double() if norm == "2" else torch.ones_like(weights).double()
            reached = ((middle * pace).minimum(room[one]) * weights.abs()).sum()
            low, high = (low, middle) if reached >= rise[place] else (middle, high)
        shortest = (high * pace).minimum(room[one].double())
        order = 2 if norm == "2" else torch.inf
        ratio = (result - images[one]).double().flatten().norm(p=order) / shortest.flatten().norm(p=order)
        assert 1 <= ratio + 1e-6 <= 1.035


@pytest.mark.parametrize("norm", ["2", "inf"])
def test_deepfool_gets_there_where_hardly_an_entry_can_move(norm):
    """All but three entries are white already: of a published step, little is inside of the range."""
    images = torch.ones(1, 1, 8, 8)
    images[..., 0, :3] = 0.1
    model, labels = scored(torch.ones(1, 1, 8, 8), 61 + 2.4), torch.tensor([0])
    result = deepfool(model, images, labels, norm=norm)
    assert model(result).argmax(1) == 1
    assert torch.equal(result[images == 1], images[images == 1])
    assert (result[images < 1] - 0.1).tolist() == pytest.approx([0.7] * 3, rel=0.011)


def test_deepfool_goes_to_the_end_of_the_range_where_no_boundary_is_inside():
    images = torch.full((1, 1, 4, 4), 0.5)
    result = deepfool(scored(torch.ones(1, 1, 4, 4), 17), images, torch.tensor([0]))
    assert torch.equal(result, torch.ones_like(images))


@pytest.mark.parametrize("scale", [1e-24, 1e-10, 1e10, 1e20])
@pytest.mark.parametrize("preset", [None, "moosavi-2016", "foolbox-0.8"])
def test_deepfool_does_not_depend_on_the_scale_of_logits(scale, preset):
    model = Affine(4)
    images, labels = model.batch()
    expected = deepfool(model, images, labels, preset=preset)
    with torch.no_grad():
        model.weight *= scale
        model.bias *= scale
    assert torch.allclose(deepfool(model, images, labels, preset=preset), expected, atol=1e-5)


def test_fgsm_is_the_sign_of_the_weights():
    model = Affine(2)
    images, labels = model.batch()
    direction = (model.weight[1 - labels] - model.weight[labels]).sign().view_as(images)
    assert torch.allclose(fgsm(model, images, labels, eps=0.03), images + 0.03 * direction, atol=1e-7)


def test_fgsm_line_search_finds_the_smallest_part_that_flips():
    model = Affine(2)
    images, labels = model.batch()
    logits = model(images).detach()
    needed = (logits[:, 0] - logits[:, 1]).abs() / (model.weight[0] - model.weight[1]).abs().sum()
    result = fgsm(model, images, labels, preset="foolbox-0.8")
    assert torch.allclose(linf(images, result), (needed * 1000).ceil() / 1000, atol=1e-6)
    assert (model(result).argmax(1) != labels).all()


def test_fgsm_raises_the_cross_entropy_of_every_pixel():
    model = nn.Conv2d(1, 2, 1)
    images = torch.full((1, 1, 4, 4), 0.5)
    labels = torch.tensor([[[0, 1, 0, 1]] * 4])
    rising = (model.weight[1] - model.weight[0]).sign().item()
    expected = torch.where(labels == 0, rising, -rising) * 0.1
    assert torch.allclose(fgsm(model, images, labels, eps=0.1) - images, expected[:, None].float())


def saliency_order(weights, count):
    """Entries by the size of their weight, largest first."""
    return set(weights.argsort(descending=True)[:count].tolist())


@pytest.mark.parametrize("at_once", [1, 4])
def test_saliency_map_darkens_entries_in_the_order_of_their_weights(at_once):
    model = Affine(2)
    images, labels = model.batch()
    logits = model(images).detach()
    result = saliency_map(model, images, labels, entries_per_step=at_once)
    assert (model(result).argmax(1) != labels).all()
    for image, made, label, clean in zip(images, result, labels, logits, strict=True):
        difference = (image - made).flatten()
        assert (difference >= 0).all()
        # Darkening an entry by theta lowers the gap by theta times its weight: the largest go first, to 0.
        falling = (model.weight[label] - model.weight[1 - label]).detach()
        changed = difference.nonzero()[:, 0]
        assert set(changed.tolist()) == saliency_order(falling, len(changed))
        gap = (clean[label] - clean[1 - label]).item()
        removed = difference * falling
        assert removed.sum() > gap
        if at_once == 1:
            assert removed.sum() - 0.1 * falling[changed].max() < gap


def test_saliency_map_changes_an_entry_no_more_often_than_allowed():
    model = Affine(2)
    images, labels = model.batch()
    result = saliency_map(model, images, labels, theta=0.01, max_changes=3)
    assert linf(images, result).max() <= 0.03 + 1e-6


def test_saliency_map_stops_at_the_target_or_at_any_wrong_class():
    model = Affine(6)
    images, labels = model.batch()
    rngs = [generator(0, place) for place in range(12)]
    drawn = [int(generator(0, place).integers(5)) for place in range(12)]
    goals = torch.tensor([number + (number >= label) for number, label in zip(drawn, labels, strict=True)])
    arguments = {"saliency": "pairs", "target": "random", "theta": 0.1}
    there, anywhere = Tally(), Tally()
    result = saliency_map(model, images, labels, rngs=rngs, stop="target", tally=there, **arguments)
    assert torch.equal(model(result).argmax(1), goals)
    rngs = [generator(0, place) for place in range(12)]
    result = saliency_map(model, images, labels, rngs=rngs, stop="wrong", tally=anywhere, **arguments)
    assert (model(result).argmax(1) != labels).all()
    assert (anywhere.steps <= there.steps).all()
    assert (anywhere.steps < there.steps).any()


@pytest.mark.parametrize(("share", "changed"), [(0.05, 4), (0.2, 16), (1.0, 84)])
@pytest.mark.parametrize("saliency", ["pairs", "entries"])
def test_saliency_map_keeps_its_share(saliency, share, changed):
    model = Affine(3)
    images, labels = model.batch()

    def stubborn(x):
        return model(x) + 1000 * nn.functional.one_hot(labels[: len(x)], 3)

    arguments = {"target": "runner_up", "theta": 0.2, "max_share": share, "max_changes": None}
    result = saliency_map(stubborn, images, labels, saliency=saliency, **arguments)
    assert l0(images, result).max() <= changed
    assert l0(images, result).min() >= min(changed, 20) - 1


def test_pairs_are_chosen_by_the_logits():
    model = Affine(4)
    images, labels = model.batch()
    target = model(images).topk(2).indices[:, 1]
    tally = Tally()
    result = saliency_map(
        model,
        images,
        labels,
        saliency="pairs",
        target="runner_up",
        stop="target",
        theta=0.05,
        steps=1,
        tally=tally,
    )
    for place in range(12):
        a = model.weight[target[place]].detach()
        b = model.weight.sum(0).detach() - a
        sums_a, sums_b = a[:, None] + a, b[:, None] + b
        up = torch.where((sums_a > 0) & (sums_b < 0), -sums_a * sums_b, 0).fill_diagonal_(0)
        down = torch.where((sums_a < 0) & (sums_b > 0), -sums_a * sums_b, 0).fill_diagonal_(0)
        best = up if up.max() >= down.max() else down
        first = best.argmax().item()
        difference = (result[place] - images[place]).flatten()
        assert set(difference.nonzero()[:, 0].tolist()) == {first // 84, first % 84}
        expected = 0.05 if best is up else -0.05
        assert difference[first // 84].item() == pytest.approx(expected, abs=1e-6)
    assert (tally.steps == 1).all()


def test_saliency_map_darkens_pixels_in_the_order_of_the_sums_of_their_weights():
    model = Affine(2)
    images, labels = model.batch()
    result = saliency_map(model, images, labels, unit="pixel", theta=0.05)
    assert (model(result).argmax(1) != labels).all()
    for image, made, label in zip(images, result, labels, strict=True):
        difference = (image - made).flatten(1)
        changed = (difference > 0).any(0).nonzero()[:, 0]
        # All channels of a pixel go together, each as far as it can.
        assert torch.allclose(difference[0], difference[1], atol=1e-6) or made.min() == 0
        falling = (model.weight[label] - model.weight[1 - label]).detach().view(2, -1).sum(0)
        assert set(changed.tolist()) == saliency_order(falling, len(changed))


def test_a_pixel_moves_by_the_channels_that_can():
    weights = torch.tensor([[5.0, 1.0, 0.5], [-9.0, 1.0, 0.1]])  # two channels, three pixels

    def model(images):
        score = (images.flatten(2) * weights).sum((1, 2))
        return torch.stack([score, 0.9 * score + 0.11], 1)

    images = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.5, 0.5]]).view(1, 2, 1, 3)
    labels = torch.zeros(1, dtype=torch.int64)
    # The second channel of the first pixel is 0 and does not count, so that its sum is the largest: 5.
    result = saliency_map(model, images, labels, unit="pixel", target="runner_up", steps=1)
    expected = images.clone()
    expected[0, 0, 0, 0] = 0.4
    assert torch.allclose(result, expected)


@pytest.mark.parametrize(("share", "changed"), [(0.05, 2), (0.2, 8), (1.0, 42)])
@pytest.mark.parametrize("saliency", ["pairs", "entries"])
def test_saliency_map_keeps_its_share_of_pixels(saliency, share, changed):
    model = Affine(3)
    images, labels = model.batch()

    def stubborn(x):
        return model(x) + 1000 * nn.functional.one_hot(labels[: len(x)], 3)

    arguments = {"target": "runner_up", "theta": 0.2, "max_share": share, "max_changes": None}
    result = saliency_map(stubborn, images, labels, saliency=saliency, unit="pixel", **arguments)
    pixels_changed = (result != images).any(1).flatten(1).sum(1)
    assert pixels_changed.max() <= changed
    assert pixels_changed.min() >= min(changed, 10) - 1


def test_pairs_of_pixels_are_chosen_by_sums_over_channels():
    model = Affine(4)
    images, labels = model.batch()
    target = model(images).topk(2).indices[:, 1]
    arguments = {"saliency": "pairs", "unit": "pixel", "target": "runner_up", "stop": "target"}
    result = saliency_map(model, images, labels, theta=0.05, steps=1, **arguments)
    for place in range(12):
        a = model.weight[target[place]].detach().view(2, 42).sum(0)
        b = model.weight.sum(0).detach().view(2, 42).sum(0) - a
        sums_a, sums_b = a[:, None] + a, b[:, None] + b
        up = torch.where((sums_a > 0) & (sums_b < 0), -sums_a * sums_b, 0).fill_diagonal_(0)
        down = torch.where((sums_a < 0) & (sums_b > 0), -sums_a * sums_b, 0).fill_diagonal_(0)
        best = up if up.max() >= down.max() else down
        first = best.argmax().item()
        difference = (result[place] - images[place]).flatten(1)
        expected = torch.zeros(2, 42)
        expected[:, [first // 42, first % 42]] = 0.05 if best is up else -0.05
        assert torch.allclose(difference, expected, atol=1e-6)


class Pixelwise(nn.Module):
    """A 1 x 1 convolution of three channels to three classes: logits are the channels."""

    def forward(self, images):
        return images * torch.tensor([1.0, 2.0, 4.0]).view(1, 3, *[1] * (images.ndim - 2))


def pixels(values):
    """Images of shape `1 3 1 len(values)`."""
    return torch.tensor(values).T[None, :, None]


def test_dag_takes_the_step_computed_by_hand():
    images = pixels([[0.8, 0.2, 0.1], [0.2, 0.4, 0.1], [0.8, 0.2, 0.1]])
    labels = torch.tensor([[[0, 1, 0]]])
    targets = torch.tensor([[[2, 1, 0]]])
    # Only the first pixel is to change: +4 for channel 2, -1 for channel 0; the largest entry is 4.
    expected = images.clone()
    expected[0, 2, 0, 0] += 0.01
    expected[0, 0, 0, 0] -= 0.01 / 4
    tally = Tally()
    result = dag(Pixelwise(), images, labels, targets=targets, step=0.01, steps=1, tally=tally)
    assert torch.allclose(result, expected, atol=1e-7)
    assert tally.n_active.tolist() == [1]
    by_length = dag(Pixelwise(), images, labels, targets=targets, step=0.01, steps=1, norm="2")
    assert l2(images, by_length).item() == pytest.approx(0.01, rel=1e-4)
    assert torch.allclose((by_length - images) / 0.01, (expected - images) * 4 / 0.01 / 17**0.5, atol=1e-4)


def test_dag_steps_have_their_norm_within_the_support():
    images = pixels([[0.8, 0.2, 0.1], [0.2, 0.4, 0.1]])
    labels, targets = torch.tensor([[[0, 1]]]), torch.tensor([[[2, 0]]])
    support = torch.tensor([[[[False, True]]]])
    result = dag(Pixelwise(), images, labels, targets=targets, support=support, step=0.01, steps=1)
    # The gradient is (-1, 0, 4) outside and (1, -2, 0) inside.
    assert torch.allclose(result - images, pixels([[0.0, 0.0, 0.0], [0.005, -0.01, 0.0]]), atol=1e-7)


def test_dag_in_three_dimensions_is_the_same():
    images = pixels([[0.8, 0.2, 0.1], [0.2, 0.4, 0.1]])
    labels, targets = torch.tensor([[[0, 1]]]), torch.tensor([[[2, 1]]])
    flat = dag(Pixelwise(), images, labels, targets=targets, step=0.01, steps=5)
    deep = dag(
        Pixelwise(), images[..., None], labels[..., None], targets=targets[..., None], step=0.01, steps=5
    )
    assert torch.equal(deep[..., 0], flat)


def test_dag_stops_once_the_target_is_shown():
    images = pixels([[0.8, 0.2, 0.1]])
    tally = Tally()
    arguments = {"targets": torch.tensor([[[2]]]), "step": 0.01, "steps": 50, "tally": tally}
    result = dag(Pixelwise(), images, torch.tensor([[[0]]]), **arguments)
    # 0.8 - 0.0025 t < 4 (0.1 + 0.01 t) from t = 10 on (9.41).
    assert tally.steps.tolist() == [10]
    assert Pixelwise()(result).argmax(1).item() == 2


ACTIVE = {
    # Pixels: to be changed, right so far; to be changed, wrong; to be kept, right so far; to be kept, wrong.
    "changed": [True, True, False, False],
    "all": [True, True, False, True],
    "correct": [True, False, False, False],
}


@pytest.mark.parametrize("active", ACTIVE)
@pytest.mark.parametrize("competitor", ["predicted", "true"])
def test_dag_active_pixels_and_competitors(active, competitor):
    images = pixels([[0.8, 0.2, 0.1], [0.2, 0.4, 0.1], [0.8, 0.2, 0.1], [0.2, 0.4, 0.1]])
    labels, targets = torch.tensor([[[0, 0, 0, 0]]]), torch.tensor([[[2, 2, 0, 0]]])
    shown = torch.tensor([0, 1, 0, 1])
    tally = Tally()
    arguments = {"active": active, "competitor": competitor, "step": 0.001, "steps": 1, "tally": tally}
    difference = dag(Pixelwise(), images, labels, targets=targets, **arguments) - images
    assert tally.n_active.tolist() == [sum(ACTIVE[active])]
    weights = torch.tensor([1.0, 2.0, 4.0])
    for place, is_active in enumerate(ACTIVE[active]):
        expected = torch.zeros(3)
        if is_active:
            expected[targets[0, 0, place]] += weights[targets[0, 0, place]]
            rival = shown[place] if competitor == "predicted" else labels[0, 0, place]
            expected[rival] -= weights[rival]
        assert torch.allclose(difference[0, :, 0, place], expected * 0.001 / 4, atol=1e-7), place


CLIPPED = {
    # What the network sees at the first four calls: the step is (-0.25, 0.5).
    "step": [[0.9, 0.1], [0.65, 0.6], [0.4, 1.0], [0.15, 1.0]],
    # At the third call the second channel lies at 1.1 and has no gradient: the step is (-0.5, 0).
    "seen": [[0.9, 0.1], [0.65, 0.6], [0.4, 1.0], [0.0, 1.0]],
    "end": [[0.9, 0.1], [0.65, 0.6], [0.4, 1.1], [0.15, 1.6]],
}


@pytest.mark.parametrize("clip", CLIPPED)
def test_dag_clips_every_step_what_is_seen_or_the_end(clip):
    seen = []

    def model(images):
        seen.append(images.detach().flatten().tolist())
        return images * torch.tensor([1.0, 2.0]).view(1, 2, 1, 1) + torch.tensor([9.0, 0.0]).view(1, 2, 1, 1)

    images = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1)
    labels, targets = torch.tensor([[[0]]]), torch.tensor([[[1]]])
    result = dag(model, images, labels, targets=targets, step=0.5, steps=4, clip=clip)
    for image, expected in zip(seen, CLIPPED[clip], strict=True):
        assert image == pytest.approx(expected)
    assert result.flatten().tolist() == pytest.approx([0.0, 1.0])


def test_dag_preset_of_the_authors_pulls_to_the_background_only():
    images = pixels([[0.1, 0.3, 0.1], [0.1, 0.3, 0.1], [0.9, 0.1, 0.1]])
    labels, targets = torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 2, 2]]])
    difference = (
        dag(Pixelwise(), images, labels, targets=targets, preset="ifl-camp-2019", step=0.01, steps=1) - images
    )
    direction = torch.tensor([[1.0, -2, 0], [0, -2, 0], [0, 0, 0]]).T[None, :, None]
    assert torch.allclose(difference, 0.01 * direction / direction.norm(), atol=1e-7)


def test_dag_preset_of_xie_stops_at_one_percent_of_the_foreground():
    # Of 100 foreground pixels two soon turn, and one does not: 1.9 - 0.01 t < 0.04 t from t = 39 on.
    images = pixels([[0.0, 0.31, 0.1]] * 2 + [[0.0, 0.95, 0.0]] + [[0.2, 0.6, 0.1]] * 97 + [[0.8, 0, 0]] * 50)
    labels = torch.tensor([[[1] * 100 + [0] * 50]])
    targets = torch.tensor([[[2] * 3 + [1] * 97 + [0] * 50]])
    tally = Tally()
    arguments = {"targets": targets, "preset": "xie-2017", "step": 0.01, "tally": tally}
    result = dag(Pixelwise(), images, labels, **arguments)
    # 0.62 - 0.01 t < 0.4 + 0.04 t from t = 5 on (4.4).
    assert tally.steps.tolist() == [5]
    assert Pixelwise()(result).argmax(1)[0, 0, :3].tolist() == [2, 2, 1]
    dag(Pixelwise(), images, labels, **arguments, stop_of="changed")
    assert tally.steps.tolist() == [39]


def test_dag_stops_before_ssim_falls_below():
    from medrobust.metrics.similarity import ssim

    draw = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 16, 16, generator=draw)
    labels = Pixelwise()(images).argmax(1)
    arguments = {"targets": (labels + 1) % 3, "step": 0.01, "steps": 40}
    tally = Tally()
    free = dag(Pixelwise(), images, labels, **arguments)
    stopped = dag(Pixelwise(), images, labels, **arguments, stop_ssim=0.97, tally=tally)
    assert (ssim(images, free) < 0.9).all()
    assert (ssim(images, stopped) >= 0.97).all()
    further = dag(Pixelwise(), images, labels, **{**arguments, "steps": int(tally.steps.max()) + 1})
    assert (ssim(images, further) < 0.97).any()
