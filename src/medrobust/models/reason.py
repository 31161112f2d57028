"""Other people's exceptions in one line."""


def reason(error: Exception) -> str:
    """Kind and first line of an exception, without a full stop."""
    first, *_ = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {first.rstrip('.')}"
