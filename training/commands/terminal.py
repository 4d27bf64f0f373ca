"""What the commands print to: lines and bars on stderr, errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from training.errors import TrainingError

console = Console(stderr=True)
PIPED_COLUMNS = 400


def say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one line and exit code 2 for what the user can correct."""
    try:
        yield
    except (TrainingError, OSError) as error:  # the latter is a full disk, or a folder not ours
        say(f"error: {error}")
        raise typer.Exit(2) from error


def progress_bars(*, shown: bool = True) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not shown,
    )


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print to stdout, all columns but the first aligned right; as wide as needed when piped."""
    table = Table()
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    width = None if sys.stdout.isatty() else PIPED_COLUMNS
    Console(file=sys.stdout, width=width).print(table)
