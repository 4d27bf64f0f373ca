"""`sayso gateway`: call platforms plug in without code."""

import asyncio
from typing import Annotated

import typer

from service.commands.terminal import one_line_errors
from service.observability import logs


def gateway(
    listen: Annotated[
        str | None,
        typer.Option(help="host:port for WebSockets. [SAYSO_GATEWAY_LISTEN, 127.0.0.1:8080]"),
    ] = None,
) -> None:
    """Takes calls from telephone platforms and browsers, and verifies them at a server, until
    SIGTERM or SIGINT.

    Every platform is off until it is set up: docs/integrate/gateway.md. Settings are environment
    variables, SAYSO_GATEWAY_* and those of every client (SAYSO_SERVER, SAYSO_CREDENTIAL, SAYSO_CA).

    Example: SAYSO_GATEWAY_PCM=true sayso gateway
    """
    with one_line_errors():
        from gateway.server import run  # noqa: PLC0415 - needs the extra `gateway`
        from gateway.settings import Settings  # noqa: PLC0415

        settings = Settings.read(listen=listen)
        logs.setup_logging(level=settings.log_level, form=settings.log_format)
        asyncio.run(run(settings))
