"""Other people's exceptions in one line."""

import re

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def reason(error: Exception) -> str:
    """Kind and first sentence of an exception, without a full stop or the colours that PyTorch puts in."""
    first, *_ = str(error).strip().splitlines() or ["no message"]
    sentence = COLOURS.sub("", first).partition(". ")[0]
    return f"{type(error).__name__}: {sentence.rstrip('.')}"
