"""Which words in a cell say that nothing is known."""

import pytest

from medrobust.data.files import is_missing


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\xa0", "-", "--", "?", "??", ".", "...", "\N{EN DASH}", "_"),
        *(
            "nan",
            "NaN",
            " NAN ",
            "-nan",
            "-NaN",
            "NA",
            "na",
            "<NA>",
            "(NA)",
            "#N/A",
            "#N/A N/A",
            "#NA",
            "N/A",
        ),
        *("n/a", "n.a.", "N. A.", "NaT", "None", "none", "null", "NULL", "#NULL!", "(null)", "nil"),
        *("1.#IND", "-1.#IND", "1.#QNAN", "unknown", "Unknown", "UNK", "[Unknown]", "missing", "Missing!"),
        *("not available", "Not_Available", "[Not Available]", "not-applicable", "Not Reported", "no data"),
        *("anonymous", "ANONYMIZED", "undefined"),
    ],
)
def test_nothing_is_known(text: str) -> None:
    assert is_missing(text)


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-1", "+", "1.0", "nano", "Nancy", "NAB", "nans", "P-1", "A", "x?", "a-", "n", "N0"),
        *("no finding", "unknown primary", "none of these", "not cancer", "NA-1", "nan 2", "missing tooth"),
        *("\N{GREEK SMALL LETTER ALPHA}", "\N{CJK UNIFIED IDEOGRAPH-7121}none"),
    ],
)
def test_something_is(text: str) -> None:
    assert not is_missing(text)
