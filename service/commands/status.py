"""`sayso health`, `sayso info`: whether a server is ready; what a server, or this machine, has."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.markup import escape
from rich.table import Table
from sayso import ModelInfo, ServerInfo

from service.commands.environment import format_environment
from service.commands.health import main as run_health
from service.commands.options import connect
from service.commands.terminal import Json, one_line_errors, out, print_json
from service.settings import Settings, list_settings
from service.store.redis.address import hide_password


def health(
    server: Annotated[
        str | None,
        typer.Option(help="host:port. [SAYSO_SERVER, else where SAYSO_LISTEN says]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tells whether a server is ready, and why not; exit status 0 when it is.

    Example: sayso health --server 127.0.0.1:50051
    """
    words = [*(["--server", server] if server else []), *(["--json"] if as_json else [])]
    raise typer.Exit(run_health(words))


def info(
    model: Annotated[
        Path | None, typer.Option(help="Contract model file. [SAYSO_MODEL, the shipped model]")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            envvar="SAYSO_SERVER",
            help="host:port of a server to ask for its models, limits, features and policies, "
            "instead of showing what a server would have here. [none]",
        ),
    ] = None,
    environment: Annotated[
        bool,
        typer.Option(
            "--env", help="Print the settings of this machine as an environment file instead."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the model, the inference provider in use, and every setting with its value: of this
    machine, or what a server tells of itself.

    Example: sayso info --server 127.0.0.1:50051
    """
    if environment:
        _show_environment(model, as_json=as_json)
    elif server is not None and model is None:
        _show_server(server, as_json=as_json)
    else:
        _show_machine(model, as_json=as_json)


def _show_environment(model: Path | None, *, as_json: bool) -> None:
    with one_line_errors():
        settings = Settings.read(model=model)
    if as_json:
        print_json(_list_values(settings))
    else:
        typer.echo(format_environment(settings), nl=False)


def _show_machine(model: Path | None, *, as_json: bool) -> None:
    from service.inference.session import Session  # noqa: PLC0415 - other commands start without it

    with one_line_errors():
        settings = Settings.read(model=model)
        session = Session.open(settings.model, device=settings.device, threads=settings.threads)
    if as_json:
        print_json({"model": session.describe(), "settings": _list_values(settings)})
        return
    out.print(_facts_table("model", session.describe()))
    values = Table("variable", "value", "meaning", title="settings")
    descriptions = (setting.description for setting in list_settings().values())
    for (name, value), meaning in zip(_list_values(settings).items(), descriptions, strict=True):
        values.add_row(name, escape(str(value)), meaning)
    out.print(values)


def _list_values(settings: Settings) -> dict[str, Any]:
    """List the values by variable, without passwords and secrets."""
    values = {}
    for name, setting in list_settings().items():
        value = setting.value_in(settings)
        if name == "store":
            value = hide_password(str(value))
        values[f"SAYSO_{name.upper()}"] = str(value) if isinstance(value, SecretStr) else value
    return values


def _show_server(server: str, *, as_json: bool) -> None:
    with connect(server) as sayso:
        info = sayso.server_info()
    if as_json:
        print_json(info)
        return
    out.print(_facts_table(f"server {server}", dict(_describe_server(info))))
    for number, model in enumerate(info.models):
        title = "previous model" if number else "model"
        out.print(_facts_table(title, _describe_model(model)))


def _facts_table(title: str, facts: Mapping[str, str]) -> Table:
    table = Table("", "", title=escape(title), show_header=False)
    for name, value in facts.items():
        table.add_row(name, escape(value))
    return table


def _describe_server(info: ServerInfo) -> Iterator[tuple[str, str]]:
    yield "version", info.version
    yield "largest message", f"{info.max_message_bytes} bytes"
    yield "largest chunk of a stream", f"{info.max_chunk_bytes} bytes of audio"
    yield "longest recording", f"{info.max_recording_s:g} s"
    yield "longest call", f"{info.max_call_s:g} s"
    yield "net speech to enroll", f"{info.enrollment_net_speech_s:g} s"
    yield "features", ", ".join(info.features) or "none"
    yield "policies", ", ".join(info.policies) or "none"


def _describe_model(model: ModelInfo) -> Mapping[str, str]:
    rates = model.calibrated_range
    return {
        "model id": model.model_id,
        "sample rate": f"{model.sample_rate} Hz",
        "window": f"{model.window_s:g} s",
        "least net speech": f"{model.min_net_speech_s:g} s",
        "dimension": str(model.dimension),
        "false-match rates": f"{rates.lowest:g} to {rates.highest:g}"
        if rates
        else "not calibrated: nothing is decided",
    }
