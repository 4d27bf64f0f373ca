"""How the commands print and end: lines and bars on stderr, errors in one line."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from training.errors import TrainingError

console = Console(stderr=True)
PIPED_COLUMNS = 400


def say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_version(context: typer.Context, wanted: bool) -> None:
    """Print the program's name and version, and exit."""
    if wanted:
        typer.echo(f"{context.find_root().info_name} {version('sayso')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=show_version, is_eager=True, help="Print the version and exit."
    ),
]


def add_command(app: typer.Typer, command: Callable[..., None], name: str) -> None:
    """Add a command whose help is its docstring, its paragraphs wrapped by the terminal alone."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(name, help=text)(command)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one line and exit status 2 for what the user can correct.

    An `OSError` is a full disk or a folder of somebody else; a base installation has no torch.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        _print_error(f"{package} is not installed: pip install 'sayso[train]'")
        raise typer.Exit(2) from error
    except (TrainingError, OSError) as error:
        _print_error(str(error))
        raise typer.Exit(2) from error


def _print_error(message: str) -> None:
    console.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)


@contextmanager
def end_at_once(environ: Mapping[str, str]) -> Iterator[None]:
    """End the process as soon as the body has, if there are several ranks.

    Shutting the interpreter down instead lets a thread of torch that still needs it abort a rank
    that has done its work (pytorch/pytorch issue 190489).
    """
    try:
        yield
    except SystemExit as ended:
        if int(environ.get("WORLD_SIZE", "1")) == 1 or not isinstance(ended.code, int | None):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code or 0)


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
