"""`sayso health`, `sayso info`: whether a server is ready, and what this one would run with."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from service.commands.connection import connected
from service.commands.options import LOCAL, Server
from service.commands.terminal import one_line_errors, out
from service.session import Session
from service.settings import Settings


def health(server: Server = LOCAL) -> None:
    """Exit status 0 when the server is ready: model loaded and store reachable."""
    with connected(server, timeout_s=5.0) as sayso:
        ready = sayso.ready()
    out.print("ready" if ready else "not ready", highlight=False)
    raise typer.Exit(0 if ready else 1)


def info(
    model: Annotated[
        Path | None, typer.Option(help="Contract model file. [SAYSO_MODEL, the shipped model]")
    ] = None,
) -> None:
    """Shows the model, the inference provider in use, and every setting with its value."""
    with one_line_errors():
        settings = Settings.read(model=model)
        session = Session.open(settings.model, device=settings.device, threads=settings.threads)
    facts = Table("", "", title="model", show_header=False)
    for name, value in session.describe().items():
        facts.add_row(name, str(value))
    out.print(facts)
    values = Table("variable", "value", "meaning", title="settings")
    for name, field in Settings.model_fields.items():
        values.add_row(f"SAYSO_{name.upper()}", str(getattr(settings, name)), field.description)
    out.print(values)
