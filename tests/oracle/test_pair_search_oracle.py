"""The pair search against trying all pairs."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrobust.perturbations.attacks.saliency_map import best_pairs, survivors


def brute_force(a, c):
    """The largest product over all pairs with two positive sums; 0 without any."""
    gain, loss = a[:, None] + a, c[:, None] + c
    valid = np.triu((gain > 0) & (loss > 0), 1)
    return float(np.where(valid, gain * loss, 0).max(initial=0))


def check(a, c, domain):
    pairs, products = best_pairs(a, c, domain)
    for row in range(len(a)):
        kept = domain[row].nonzero()[:, 0]
        expected = brute_force(a[row, kept].numpy(), c[row, kept].numpy())
        assert products[row].item() == np.float32(expected)
        if expected > 0:
            p, q = pairs[row].tolist()
            assert p != q
            assert domain[row, p]
            assert domain[row, q]
            product = (a[row, p] + a[row, q]) * (c[row, p] + c[row, q])
            assert product.item() == np.float32(expected)


@given(
    seed=st.integers(0, 2**31),
    entries=st.integers(1, 60),
    levels=st.sampled_from([2, 4, 20, None]),
    correlation=st.sampled_from([-0.99, -0.5, 0.0, 0.9]),
    shift=st.sampled_from([-3.0, 0.0, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_pair_search_equals_brute_force(seed, entries, levels, correlation, shift):
    draw = torch.Generator().manual_seed(seed)
    a, other = torch.randn(3, entries, generator=draw), torch.randn(3, entries, generator=draw)
    c = correlation * a + (1 - correlation**2) ** 0.5 * other
    if levels:  # Few different values make ties.
        a, c = (a * levels / 2).round(), (c * levels / 2).round()
    domain = torch.rand(3, entries, generator=draw) < 0.8
    check(a + shift, c + shift, domain)


def test_pair_search_equals_brute_force_on_an_anti_diagonal():
    a = torch.linspace(-1, 1, 100)[None]
    check(a, 0.5 - a, torch.ones(1, 100, dtype=torch.bool))


def test_few_entries_survive():
    draw = torch.Generator().manual_seed(0)
    a, c = torch.randn(2, 20_000, generator=draw), torch.randn(2, 20_000, generator=draw)
    assert survivors(a, c).sum(1).max() < 100
    everything = torch.zeros(1, 20_000)
    assert survivors(everything, everything).sum() == 2


def test_no_pair_has_no_product():
    a = torch.tensor([[-1.0, -2.0], [1.0, 1.0], [5.0, 5.0]])
    c = torch.tensor([[1.0, 1.0], [-1.0, -3.0], [5.0, 5.0]])
    domain = torch.tensor([[True, True], [True, True], [True, False]])
    assert best_pairs(a, c, domain)[1].tolist() == [0, 0, 0]
