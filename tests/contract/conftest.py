"""What takes long for good results, and shows nothing here, is short."""

from collections.abc import Iterator

import pytest

from medrobust.perturbations.attacks import alma_prox


@pytest.fixture(scope="module", autouse=True)
def few_steps_to_the_start() -> Iterator[None]:
    """DAG takes large steps, and gives up soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alma_prox, "DAG_STEPS", 6)
        patch.setattr(alma_prox, "DAG_STEP", 0.1)
        yield
