"""How a command ends and what it prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from evaluation.errors import EvaluationError
from service.errors import SaysoError


@contextmanager
def print_errors() -> Iterator[None]:
    """End with one clear line and exit status 2 for what the user can correct."""
    try:
        yield
    except* (EvaluationError, SaysoError) as group:
        error = _first(group)
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
