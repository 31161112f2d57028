"""What checks annotations at every call: types, and the shapes of arrays."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int is a float, as for mypy
        violation_type=jaxtyping.TypeCheckError,
    )
)
"""By name, as jaxtyping's import hook wants it."""

of_jaxtyping = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """In place of `jaxtyping.jaxtyped`, which checks arguments twice and binds them each time.

    On small networks that takes longer than the steps of an attack. Shapes that name an argument ("{size}"),
    and classes, are left to it.
    """

    def decorate(what: Any) -> Any:
        hints = "" if inspect.isclass(what) else str(list(what.__annotations__.values()))
        if inspect.isclass(what) or "{" in hints:
            return of_jaxtyping(what, typechecker=typechecker)
        checked = typechecker(what)
        if "[Tensor, " not in hints and "[ndarray, " not in hints:
            return checked

        @functools.wraps(what)
        def within_its_own_shapes(*args: Any, **kwargs: Any) -> Any:
            with of_jaxtyping("context"):
                return checked(*args, **kwargs)

        return within_its_own_shapes

    return decorate
