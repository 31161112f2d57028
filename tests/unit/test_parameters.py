from typing import Annotated

import pytest
from annotated_types import Ge, Le

from medrobust.errors import StudyError
from medrobust.parameters import Ratio, parameter_model, resolve


def attack(
    model: object,
    *,
    rngs: object = None,
    step: Annotated[Ratio, Ge(0), Le(1)] = 0.5,
    steps: Annotated[int, Ge(1)] = 20,
) -> None: ...


def targets(labels: object, *, share: float, steps: int = 7) -> None: ...


MODEL = parameter_model("attack", attack, targets, without={"rngs"})


def test_defaults_come_from_the_signature_and_the_first_function_wins() -> None:
    assert resolve(MODEL, {"share": 0.1}, "x") == {"step": 0.5, "steps": 20, "share": 0.1}


@pytest.mark.parametrize(
    ("written", "value"),
    [("4/255", 4 / 255), ("0.5/255", 0.5 / 255), ("0.1", 0.1), (" 1 / 2 ", 0.5), (0.25, 0.25), (1, 1.0)],
)
def test_ratios(written: object, value: float) -> None:
    assert resolve(MODEL, {"share": 0.1, "step": written}, "x")["step"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 0.1, "stps": 3}, r"perturbations\.dag: Unknown key 'stps'\. Did you mean 'steps'\?"),
        ({}, r"perturbations\.dag\.share: this key is required"),
        ({"share": 0.1, "steps": 0}, r"perturbations\.dag\.steps: .*greater than or equal to 1; got 0"),
        ({"share": 0.1, "step": "4/0"}, r"perturbations\.dag\.step: .*got '4/0'"),
        ({"share": 0.1, "step": 2}, r"perturbations\.dag\.step: .*less than or equal to 1; got 2"),
        ({"share": 0.1, "rngs": 1}, r"Unknown key 'rngs'"),
    ],
)
def test_wrong_parameters(given: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        resolve(MODEL, given, "perturbations.dag")
