"""Where networks run."""

import torch

from medrobust.errors import RunError, reason


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        RunError: There is no such device here.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" holds no numbers
    except (RuntimeError, AssertionError) as error:
        raise RunError(
            f"--device: '{name}' cannot be used here ({reason(error)}). Take auto or cpu."
        ) from None
    return device
