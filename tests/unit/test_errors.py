from pathlib import Path

import pytest

from medrobust.data.findings import refused
from medrobust.errors import LONGEST_REASON, DataError, reason, unknown


def test_unknown_names_the_nearest_and_all_known() -> None:
    assert unknown("perturbation", "fsgm", ["fgsm", "deepfool"]) == (
        "Unknown perturbation 'fsgm'. Did you mean 'fgsm'? Known: deepfool, fgsm."
    )


def test_unknown_suggests_nothing_that_is_far_away() -> None:
    assert unknown("model", "zzz", ["unet"]) == "Unknown model 'zzz'. Known: unet."


def test_unknown_of_an_empty_catalogue() -> None:
    assert unknown("model", "unet", []).endswith("Known: none.")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It failed. Because: of this.\n  And\tthat.", "ValueError: It failed. Because: of this. And that"),
        ("", "ValueError: no message"),
        (" \n ", "ValueError: no message"),
        ("\x1b[31mred\x1b[0m: alert", "ValueError: red: alert"),
        ("file C:\\a.b: line 3: odd", "ValueError: file C:\\a.b: line 3: odd"),
    ],
)
def test_a_reason_is_all_that_an_error_says_in_one_line(text: str, shown: str) -> None:
    assert reason(ValueError(text)) == shown


def test_a_reason_without_end_keeps_how_it_begins_and_how_it_ends() -> None:
    shown = reason(ValueError("first " + "x" * 10**6 + " last"))
    assert shown.startswith("ValueError: first xx")
    assert shown.endswith("xx last")
    assert len(shown) < LONGEST_REASON + 30


@pytest.mark.parametrize(
    ("text", "says", "advice"),
    [
        ("a.csv, row 3: is odd. Correct it.", "a.csv, row 3: is odd.", "Correct it."),
        ("a.csv: no 'x. Y.png' (Errno 2. No file). Correct it (or not).", None, None),
        ("a.csv: has 3 cells. Is it a table?", "a.csv: has 3 cells.", "Is it a table?"),
        ("a.csv: cannot be read (Bad data. Block 7)", None, None),
        ("a.csv: is odd", None, None),
        (
            "Unknown 'x'. Did you mean 'y'? `labels` name it.",
            "Unknown 'x'. Did you mean 'y'?",
            "`labels` name it.",
        ),
    ],
)
def test_the_advice_of_a_finding_is_a_sentence_of_its_own(
    text: str, says: str | None, advice: str | None
) -> None:
    found = refused("wrong row", DataError(text), Path("a.csv"))
    assert (found.says, found.advice) == (says or text, advice or "Correct it, or remove it.")
