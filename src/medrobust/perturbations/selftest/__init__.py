"""Self-tests of an attack on a network: does what it finds say anything about the network?"""

from medrobust.perturbations.selftest.probe import CHECKS, Check
from medrobust.perturbations.selftest.run import passes, selftest

__all__ = ["CHECKS", "Check", "passes", "selftest"]
