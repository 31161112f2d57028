"""Who does the pieces of a plan's jobs: this process, or a Ray cluster."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from medrobust.running.jobs import Job
from medrobust.running.plan import Plan
from medrobust.running.progress import Display


@runtime_checkable
class Executor(Protocol):
    """Does all pieces that are left, kind after kind."""

    def __call__(self, plan: Plan, jobs: Sequence[Job], shown: Display) -> None:
        """Do the jobs.

        Args:
            plan: What they belong to.
            jobs: All jobs to do, in their order; of some, pieces are finished.
            shown: Told how far everything is.

        Raises:
            RunError: The memory does not suffice for a single image, or a worker is lost for good.
            MedrobustError: Anything else that a person can mend.
        """
