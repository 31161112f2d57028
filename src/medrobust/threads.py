"""How the threads of OpenMP wait for each other."""

from collections.abc import Mapping

SPINS = 1000
"""Rounds that a thread of GNU OpenMP spins before it sleeps; docs/performance.md compares others."""


def sharing_cores(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables with which waiting threads soon sleep and leave their cores to other programs.

    They count only if they are set before torch is imported; none where `environment` says how threads wait.
    """
    if "OMP_WAIT_POLICY" in environment:
        return {}
    return {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": environment.get("GOMP_SPINCOUNT", str(SPINS))}
