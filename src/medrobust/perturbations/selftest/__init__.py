"""Self-tests of an attack on a network: does what it finds say anything about the network?"""

from medrobust.perturbations.selftest.checks import CHECKS, Check, passes, selftest

__all__ = ["CHECKS", "Check", "passes", "selftest"]
