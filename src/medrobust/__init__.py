"""medrobust: find out which medical-imaging network to trust.

Clean, noisy and adversarial performance of several networks, with the uncertainty that the number of patients
allows, after the protocol of Paschali et al., MICCAI 2018.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrobust.api import Run, compare, run

__all__ = ["Run", "__version__", "compare", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the interface on first use: `medrobust --help` must not wait for torch."""
    if name in {"Run", "compare", "run"}:
        from medrobust import api

        return getattr(api, name)
    raise AttributeError(f"module 'medrobust' has no attribute '{name}'")
