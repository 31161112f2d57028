"""File systems behind URLs: opened, and their many kinds of failures turned into one readable one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations
from fsspec.utils import get_protocol

from medrobust.errors import MedrobustError, RunError, reason, unknown

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
}
"""What to install for common protocols; for others fsspec's own message says it."""


def open_file_system(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it.

    Raises:
        RunError: The protocol is unknown, its package is missing, or the address is invalid.
    """
    protocol = get_protocol(url)
    try:
        # Others write into it too: what was listed once may no longer be all.
        system, path = url_to_fs(url, use_listings_cache=False)  # type: ignore[no-untyped-call]
    except ImportError as error:
        package = PACKAGES.get(protocol)
        remedy = f"Run `pip install {package}`." if package else f"{error}."
        raise RunError(f"'{url}': a package for {protocol}:// is missing. {remedy}") from error
    except ValueError as error:
        if protocol in known_implementations:
            raise RunError(f"'{url}' is not a valid address of {protocol}://: {error}.") from error
        raise RunError(f"'{url}': {unknown('protocol', protocol, known_implementations)}") from None
    return (system if isinstance(system, LocalFileSystem) else _Reached(system, url)), path


@contextmanager
def reached(url: str, *passing: type[Exception]) -> Iterator[None]:
    """Turn whatever the client of a store raises into a `RunError`, except for existing and missing files.

    Clients have exceptions of their own, without a common base: for missing credentials, for no connection.
    """
    through: tuple[type[Exception], ...] = (
        FileNotFoundError,
        FileExistsError,
        MedrobustError,
        MemoryError,
        *passing,
    )
    try:
        yield
    except through:
        raise
    except Exception as error:
        raise RunError(
            f"'{url}' cannot be read or written: {reason(error)}. Check the address, the connection and "
            "your credentials. Finished work is kept; run the same command again."
        ) from error


class _Reached:
    """A file system whose every call is `reached`."""

    def __init__(self, system: Any, url: str) -> None:
        self._system, self._url = system, url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):  # of Python itself: asked for by copy and pickle before there is a system
            raise AttributeError(name)
        call = getattr(self._system, name)

        @wraps(call)
        def guarded(*arguments: Any, **options: Any) -> Any:
            with reached(self._url):
                return call(*arguments, **options)

        return guarded
