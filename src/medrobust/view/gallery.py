"""All cases of a finished run: what can be chosen, and any one image with a network's answer to it."""

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

from medrobust.analysis.results import Results
from medrobust.core import Case
from medrobust.data.scans.geometry import codes_of
from medrobust.errors import RunError
from medrobust.report import explorer
from medrobust.report.explorer import Frame, frames_of
from medrobust.report.style import structure_colours
from medrobust.running.explorer import View, case_facts, holding, names_of, shown_cases, views
from medrobust.running.plan import Plan, target_folder
from medrobust.running.predict import remember_weights
from medrobust.storage.schemas import SCORED

VIEWS_KEPT = 8


class Gallery:
    """A run with its data and networks at hand.

    Images are read from the store or made again, and the networks are asked for their answers; nothing is
    written.
    """

    def __init__(self, plan: Plan, results: Results) -> None:
        """Open a finished run.

        Args:
            plan: The plan of its study.
            results: Its rows.

        Raises:
            RunError: The data have changed since the run.
        """
        self._plan, self._results = plan, results
        dataset = plan.setup.dataset
        if results.record["data"]["fingerprint"] != dataset.fingerprint:
            raise RunError(
                f"The run in '{plan.setup.folder.url}' was made with other data than those found. Give the "
                "folder of its data with --data."
            )
        self._scans = {
            scan: shown_cases(plan.setup.cases, scan, len(plan.setup.cases))
            for scan in dict.fromkeys(case.scan_id for case in plan.setup.cases)
        }
        self._frames = [self._frames_of(*scan) for scan in self._scans.items()]
        self._sets, self._targets, self._pairs = names_of(plan.viewed, plan.setup.targets)
        self._colours = structure_colours(results.classes, results.colours)
        self._one_at_a_time = Lock()  # requests come from several threads
        self._view = lru_cache(VIEWS_KEPT)(self._look)

    def index(self) -> dict[str, Any]:
        """What can be chosen, and the scores of every case; see `report.explorer.index`."""
        scans = []
        for (scan, cases), frames in zip(self._scans.items(), self._frames, strict=True):
            described = [case_facts(case) for case in cases]
            scans.append({"scan_id": scan, "why": "", "cases": described, "frames": frames})
        facts = {"sets": self._sets, "targets": self._targets, "pairs": self._pairs, "scans": scans}
        return explorer.index(facts, self._results)

    def frame(self, scan: int, frame: int, set: int, target: int) -> dict[str, Any]:  # noqa: A002
        """The clean image and that of one set, as one target sees them; see `report.explorer.frame`.

        Args:
            scan: Place of the scan in the index.
            frame: Place of the image among the scan's frames.
            set: Place of the perturbation and source.
            target: Place of the network.

        Raises:
            IndexError: There is no such place, or the target does not face the set.
            RunError: Images are damaged, or the network's weights are not those of the run.
        """
        frames = self._frames[scan] if 0 <= scan < len(self._frames) else []
        if (set, target) not in self._pairs or not 0 <= frame < len(frames):
            raise IndexError("there is no such image")
        chosen = frames[frame]
        case = list(self._scans.values())[scan][chosen.case]
        with self._one_at_a_time:
            seen = self._view(case, set, target)
        return explorer.frame(chosen.of(seen), self._colours, self._results.regions)

    def _frames_of(self, scan: str, cases: Sequence[Case]) -> list[Frame]:
        dataset = self._plan.setup.dataset
        axes = None if dataset.affine is None else codes_of(dataset.affine(scan))
        described = [case_facts(case) for case in cases]
        return frames_of(described, dataset.task, dataset.shape, axes, dataset.spacing)

    def _look(self, case: Case, place: int, target: int) -> View:
        """The clean set and the chosen one, as the chosen target sees them."""
        setup = self._plan.setup
        sets, targets = holding(self._plan.viewed, setup.targets, case)
        asked = targets[target]
        where = target_folder(asked, SCORED[setup.study.task])
        remember_weights(setup.folder, setup.weights_sha256(asked), asked.id.folder, *where)
        (seen,) = views(setup, [sets[0], sets[place]], [asked], [case])
        return seen
