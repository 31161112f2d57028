"""medrobust: find out which medical-imaging network to trust.

Clean, noisy and adversarial performance of several networks, with the uncertainty that the number of patients
allows, after the protocol of Paschali et al., MICCAI 2018.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrobust.api import Attacked, Comparison, Run, attack, compare, evaluate, run
    from medrobust.models import Network
    from medrobust.perturbations.smoothing import certify

__all__ = [
    "Attacked",
    "Comparison",
    "Network",
    "Run",
    "__version__",
    "attack",
    "certify",
    "compare",
    "evaluate",
    "run",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the interface on first use: `medrobust --help` must not wait for torch."""
    if name == "Network":
        from medrobust.models import Network

        return Network
    if name == "certify":
        from medrobust.perturbations.smoothing import certify

        return certify
    if name in __all__:
        from medrobust import api

        return getattr(api, name)
    raise AttributeError(f"module 'medrobust' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
