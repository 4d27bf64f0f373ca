"""Print results of commands to standard output, and everything else to standard error."""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

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
out = Console(width=None if sys.stdout.isatty() else _UNLIMITED, emoji=False)
err = Console(stderr=True, emoji=False)

_EXTRAS = {
    "aiohttp": "gateway",
    "hvac": "vault",
    "opentelemetry": "tracing",
    "requests": "vault",
    "starlette": "gateway",
    "uvicorn": "gateway",
    "uvloop": "gateway",
    "websockets": "gateway",
}
"""The extra of the package that installs a module."""


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
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON: one object, or one a line for a list.")
]


def say(line: str) -> None:
    """Print a line as it is: on a terminal it may wrap, but no word or digest is broken."""
    out.print(line, highlight=False, markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """Print a line as it is to standard error."""
    err.print(line, highlight=False, markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print a value as one line of JSON: dataclasses as objects, times in ISO 8601, numbers that
    are not finite as null."""
    typer.echo(json.dumps(_to_json(value), ensure_ascii=False))


def _to_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, date | Path):
        return value.isoformat() if isinstance(value, date) else str(value)
    if dataclasses.is_dataclass(value):
        value = list_fields(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(each) for key, each in value.items()}
    return [_to_json(each) for each in value]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error that the user can act on into one line on stderr and exit status 2."""
    try:
        yield
    except (SaysoError, sayso.SaysoError, OSError, ModuleNotFoundError) as error:
        if (message := _explain(error)) is None:
            raise
        err.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def _explain(error: Exception) -> str | None:
    """Say what the user can correct; None if the error is a fault of this program."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else None
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").partition(".")[0]
        extra = _EXTRAS.get(module)
        return extra and f"{module} is not installed: pip install 'sayso[{extra}]'"
    return str(error)


def list_fields(answer: Any) -> dict[str, Any]:
    """List the fields of an answer by name, for JSON; of a recording that could not be read, its
    error."""
    if isinstance(answer, InvalidArgument):
        return {"error": str(answer)}
    return {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}


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
        say(f"{name}: on watchlist {match.group} as {match.speaker_id}{llr}")
