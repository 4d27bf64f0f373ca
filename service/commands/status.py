"""`sayso health`, `sayso info`: whether a server is ready; the model and settings on this
machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from service.commands.health import main as run_health
from service.commands.terminal import one_line_errors, out
from service.inference.session import Session
from service.settings import Settings, list_settings
from service.store.redis.address import hide_password


def health(
    server: Annotated[
        str | None,
        typer.Option(help="host:port. [SAYSO_SERVER, else where SAYSO_LISTEN says]"),
    ] = None,
) -> None:
    """Tells whether a server is ready, and why not; exit status 0 when it is."""
    raise typer.Exit(run_health(["--server", server] if server else []))


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
    for name, setting in list_settings().items():
        value = str(setting.value_in(settings))
        shown = hide_password(value) if name == "store" else value
        values.add_row(f"SAYSO_{name.upper()}", escape(shown), setting.description)
    out.print(values)
