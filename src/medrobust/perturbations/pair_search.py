"""The best pair of entries for the saliency map attack, exactly, without looking at all pairs.

Wanted are p and q with the largest (a_p + a_q) (c_p + c_q), both sums positive. An entry that two others
exceed in a *and* in c can be left out: in any pair that holds it, one of the two can take its place. What is
left are the first two Pareto layers, a few hundred of the 268,203 entries of a 299 x 299 photo, and among
those all pairs are tried. Sorting dominates: O(m log m).
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def best_pairs(
    gains: Float[Tensor, "n m"], losses: Float[Tensor, "n m"], domain: Bool[Tensor, "n m"]
) -> tuple[Int64[Tensor, "n 2"], Float[Tensor, " n"]]:
    """For every row the pair of entries with the largest product of summed `gains` and summed `losses`.

    Args:
        gains: By how much the target's logit rises with each entry.
        losses: By how much the sum of the other logits falls with each entry.
        domain: Entries that may be chosen.

    Returns:
        The two entries, and the product, which is 0 (and the entries meaningless) where no pair has two
        positive sums.
    """
    a = torch.where(domain, gains, -torch.inf)
    c = torch.where(domain, losses, -torch.inf)
    kept = survivors(a, c)
    found = [best_pair(a[row], c[row], kept[row].nonzero()[:, 0]) for row in range(len(a))]
    pairs, products = zip(*found, strict=True)
    return torch.stack(pairs), torch.stack(products)


def survivors(a: Float[Tensor, "n m"], c: Float[Tensor, "n m"]) -> Bool[Tensor, "n m"]:
    """Entries that at most one other entry reaches in both `a` and `c`; of equal entries two are kept."""
    by_c = c.argsort(dim=1, descending=True, stable=True)
    order = by_c.gather(1, a.gather(1, by_c).argsort(dim=1, descending=True, stable=True))
    ordered = c.gather(1, order)
    # After sorting by a, an entry survives if it exceeds the second largest c before it. The second largest
    # so far is the largest of what was ever beaten or beat nothing: min(new, largest before).
    nothing = torch.full_like(ordered[:, :1], -torch.inf)
    largest_before = torch.cat([nothing, ordered.cummax(1).values[:, :-1]], dim=1)
    second = torch.minimum(ordered, largest_before).cummax(1).values
    second_before = torch.cat([nothing, second[:, :-1]], dim=1)
    return torch.zeros_like(ordered, dtype=torch.bool).scatter_(1, order, ordered > second_before)


def best_pair(
    a: Float[Tensor, " m"], c: Float[Tensor, " m"], kept: Int64[Tensor, " s"]
) -> tuple[Int64[Tensor, " 2"], Float[Tensor, ""]]:
    """Try all pairs of the entries in `kept`."""
    if len(kept) < 2:
        return torch.zeros(2, dtype=torch.int64, device=a.device), torch.zeros_like(a[0])
    gain = a[kept][:, None] + a[kept]
    loss = c[kept][:, None] + c[kept]
    valid = ((gain > 0) & (loss > 0)).triu(diagonal=1)
    products = torch.where(valid, gain * loss, 0)
    place = products.argmax()
    return kept[torch.stack([place // len(kept), place % len(kept)])], products.max()
