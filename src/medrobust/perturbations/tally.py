"""What an iterated attack did, beside the images it made."""

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor


@dataclass
class Tally:
    """Filled by an iterated attack that is given one; it never changes a result.

    Attributes:
        steps: Steps taken for each image.
        n_active: Pixels of each image that the attack set out to change (segmentation); 0: it had nothing to
            do.
    """

    steps: Int64[Tensor, " n"] | None = None
    n_active: Int64[Tensor, " n"] | None = None
