"""`sayso gateway`: call platforms plug in without code."""

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands import webhooks
from service.commands.terminal import one_line_errors, print_json, say
from service.observability import logs

if TYPE_CHECKING:
    from gateway.server import RunningGateway


app = typer.Typer()
app.add_typer(webhooks.app, name="webhooks")


@app.callback(invoke_without_command=True)
def gateway(
    context: typer.Context,
    listen: Annotated[
        str | None,
        typer.Option(help="host:port for WebSockets. [SAYSO_GATEWAY_LISTEN, 127.0.0.1:8080]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say where it listens in JSON: one object, once ready.")
    ] = False,
) -> None:
    """Take calls from telephone platforms and browsers, and verify them at a server, until
    SIGTERM or SIGINT.

    Every platform is off until it is set up: docs/integrate/gateway.md. Settings are environment
    variables, SAYSO_GATEWAY_* and those of every client (SAYSO_SERVER, SAYSO_CREDENTIAL, SAYSO_CA).

    Example: sayso gateway --listen 127.0.0.1:8080
    """
    if context.invoked_subcommand is not None:
        return
    with one_line_errors():
        import uvloop  # noqa: PLC0415 - a quarter less processor time; needs the extra `gateway`

        from gateway.server import run  # noqa: PLC0415
        from gateway.settings import Settings  # noqa: PLC0415

        settings = Settings.read(listen=listen)
        logs.setup_logging(level=settings.log_level, form=settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, partial(_announce, as_json=as_json)))


def _announce(running: "RunningGateway", *, as_json: bool) -> None:
    listening = {
        "address": running.address,
        "audiosocket": running.audiosocket,
        "siprec": running.siprec,
        "siprec_tls": running.siprec_tls,
    }
    if as_json:
        print_json(listening)
    else:
        audiosocket = f", AudioSocket on {running.audiosocket}" if running.audiosocket else ""
        addresses = ", ".join(filter(None, (running.siprec, running.siprec_tls)))
        siprec = f", SIPREC on {addresses}" if addresses else ""
        say(f"gateway on {running.address}{audiosocket}{siprec}")
    sys.stdout.flush()
