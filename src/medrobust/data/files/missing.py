"""The words that people and programs write where nothing is known."""

import re

MISSING = frozenset(
    (
        *("na", "n a", "n a n a", "nan", "nat", "null", "nil", "none", "1 ind", "1 qnan"),
        *("unknown", "unk", "undefined", "missing", "no data", "not available", "not applicable"),
        *("not known", "not reported", "not recorded", "anonymous", "anonymized", "anonymised"),
    )
)
"""Of pandas, R, SQL, spreadsheets, registries and people, in lower case and without signs."""

DASHES = re.compile("[\\s.?_\N{EN DASH}\N{EM DASH}-]*")


def is_missing(text: str) -> bool:
    """Whether a cell of a table says that nothing is known: it is empty, a dash, or one of `MISSING`.

    >>> [is_missing(text) for text in ("", " NaN ", "<NA>", "[Not Available]", "-", "??", "nano", "0")]
    [True, True, True, True, True, True, False, False]
    """
    if DASHES.fullmatch(text):
        return True
    return re.sub(r"[\W_]+", " ", text).strip().casefold() in MISSING
