"""How the commands of `sayso-evaluate` and `sayso-export` print, and how they end."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from evaluation.errors import EvaluationError
from service.errors import SaysoError

_UNLIMITED = 10_000  # columns; tables take what they need

# Off a terminal no line is wrapped or cut: programs read it.
out = Console(width=None if sys.stdout.isatty() else _UNLIMITED)
err = Console(stderr=True)


def say(line: str) -> None:
    """Print a line as it is: on a terminal it may wrap, but no word or digest is broken."""
    out.print(line, highlight=False, markup=False, soft_wrap=True)


def quote_command() -> str:
    """Return this process's command line, as it can be pasted into a shell."""
    name = Path(sys.argv[0]).name
    return shlex.join(["sayso-evaluate" if name == "__main__.py" else name, *sys.argv[1:]])


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
    app.command(name, help=join_lines(command))(command)


def join_lines(command: Callable[..., None]) -> str:
    """Join the lines of each paragraph of a docstring."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


@contextmanager
def one_line_errors(extra: str = "evaluation") -> Iterator[None]:
    """End with one line and exit status 2 for what the user can correct.

    A missing module counts: `extra` names the extra of the package that installs what a base
    installation lacks.
    """
    try:
        yield
    except (EvaluationError, SaysoError, ModuleNotFoundError, ExceptionGroup) as error:
        message = _explain(_find_first(error), extra)
        if message is None:
            raise
        err.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def _explain(error: Exception, extra: str) -> str | None:
    """Say what the user can correct; None if the error is a fault of this program."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        return f"{package} is not installed: pip install 'sayso[{extra}]'"
    return str(error) if isinstance(error, (EvaluationError, SaysoError)) else None


def _find_first(error: Exception) -> Exception:
    """Unwrap the first error of a group: that of the task that ended the others."""
    return _find_first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


@contextmanager
def show_steps() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what a command does; call what this yields with each step's name."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=None)
        # At once: a step may take less time than the display's own refresh.
        yield lambda step: progress.update(task, description=escape(step), refresh=True)
