"""A budget given as an SSIM: solved once per attack and source on validation cases, then recorded."""

from collections.abc import Sequence

from medrobust.core import Case, Dataset
from medrobust.errors import StudyError
from medrobust.perturbations import Request, solve_budget, support_of
from medrobust.running.attack import Source
from medrobust.running.batches import batches
from medrobust.running.image_sets import Part, budget_cases
from medrobust.running.predict import generators
from medrobust.storage import RunFolder


def with_budget(
    request: Request,
    source: Source,
    dataset: Dataset,
    validation: Sequence[Case],
    batch_size: int,
    folder: RunFolder,
    part: Part,
) -> Request:
    """The request with its budget, solved where it is given as an SSIM and was not solved before.

    Args:
        request: The attack.
        source: The network to attack.
        dataset: Where the cases come from.
        validation: Cases to solve on; at most 64 of them are used.
        batch_size: Images attacked together.
        folder: The run folder.
        part: File that the solution is recorded in.

    Raises:
        StudyError: There are no validation cases, or the SSIM cannot be reached.
    """
    if request.ssim is None:
        return request
    if not folder.exists(*part):
        cases = budget_cases(validation)
        if not cases:
            raise StudyError(
                f"perturbations.{request.label}: a budget given as an SSIM is solved on validation cases, "
                f"and the split has none. Give {request.perturbation.budget} as a number, or a split with a "
                "validation part."
            )
        inputs = (
            (
                batch.images,
                batch.labels,
                support_of(batch.images, source.support_mode),
                generators(source.seed, request.name, batch.cases),
            )
            for batch in batches(dataset, cases, batch_size, source.device)
        )
        budget = solve_budget(request, source.network, inputs)
        folder.write_json(
            {"budget": budget, "ssim": request.ssim, "cases": [case.case_id for case in cases]}, *part
        )
    return request.with_budget(folder.read_json(*part)["budget"])
