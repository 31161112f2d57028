"""What checks annotations at every call: types, and the shapes of arrays. Tests switch it on and off."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

checking = False
"""Whether calls are checked now."""

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
    and dataclasses, are left to it. What is never called while checking costs nothing.
    """

    def by_jaxtyping(function: Any) -> Any:
        return of_jaxtyping(function, typechecker=typechecker)

    def checked(function: Any) -> Any:
        hints = str(list(function.__annotations__.values()))
        if "{" in hints:
            return by_jaxtyping(function)
        of_types = typechecker(function)
        if "[Tensor, " not in hints and "[ndarray, " not in hints:
            return of_types

        def within_its_own_shapes(*args: Any, **kwargs: Any) -> Any:
            with of_jaxtyping("context"):
                return of_types(*args, **kwargs)

        return within_its_own_shapes

    def decorate(what: Any) -> Any:
        if not inspect.isclass(what):
            return while_checking(what, checked)
        if dataclasses.is_dataclass(what):
            what.__init__ = while_checking(what.__init__, by_jaxtyping)  # type: ignore[misc]
        return what

    return decorate


def while_checking(function: Any, check_it: Callable[[Any], Any]) -> Any:
    """A function that is another one while calls are checked, made when first called."""
    made = None

    @functools.wraps(function)
    def either(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        if not checking:
            return function(*args, **kwargs)
        if made is None:
            made = check_it(function)
        return made(*args, **kwargs)

    return either
