"""Whatever goes wrong ends in one message and the right exit code."""

import signal
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from medrobust.errors import MedrobustError

FAILED, INTERRUPTED = 1, 3


def _interrupt(number: int, frame: object) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


class Guarded(TyperGroup):
    """One readable message and the right exit code for everything that can go wrong.

    Typer itself exits with 2 on wrong usage.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run a command; 1 where the data, the study or the run failed, 3 where it was interrupted."""
        errors = Console(stderr=True, soft_wrap=True)
        before = signal.signal(signal.SIGTERM, _interrupt)  # what a cluster sends before it kills
        try:
            return super().invoke(ctx)
        except MedrobustError as error:
            errors.print(f"Error: {error}", style="red", markup=False, highlight=False)
            raise typer.Exit(FAILED) from None
        except BrokenPipeError:
            raise  # of `medrobust list | head`; Click ends quietly
        except OSError as error:
            errors.print(f"Error: {error}", style="red", markup=False, highlight=False)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            errors.print("Interrupted. What is finished is kept; the same command goes on from there.")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            signal.signal(signal.SIGTERM, before)
