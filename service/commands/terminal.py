"""Print results of commands to standard output, and everything else to standard error."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sayso
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from sayso import InvalidArgument, Match

from service.errors import SaysoError

T = TypeVar("T")

_UNLIMITED = 10_000  # columns; tables take what they need

# Off a terminal no line is wrapped or cut: programs read it.
out = Console(width=None if sys.stdout.isatty() else _UNLIMITED)
err = Console(stderr=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error that the user can act on into one line on stderr and exit status 2."""
    try:
        yield
    except (SaysoError, sayso.SaysoError) as error:
        err.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def for_each(
    recordings: Iterable[Path], doing: str, ask: Callable[[Path], T]
) -> Iterator[tuple[Path, T | InvalidArgument]]:
    """Ask about each recording; one that cannot be read yields its error, and the others go on."""
    for path in track(list(recordings), doing, console=err, transient=True):
        try:
            yield path, ask(path)
        except InvalidArgument as error:
            yield path, error


def print_matches(name: str, matches: Iterable[Match]) -> None:
    """Print a line for each member of a watchlist whom a recording matches."""
    for match in matches:
        llr = "" if match.llr is None else f", LLR {match.llr:.2f}"
        out.print(
            f"{name}: on watchlist {match.group} as {match.speaker_id}{llr}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
