"""`sayso serve`: the server, until it is told to stop."""

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands.terminal import one_line_errors, out
from service.settings import Settings


def serve(
    listen: Annotated[
        str | None,
        typer.Option(help="host:port; port 0 picks a free one. [SAYSO_LISTEN, 127.0.0.1:50051]"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Contract model file. [SAYSO_MODEL, the shipped model]")
    ] = None,
    previous_model: Annotated[
        Path | None,
        typer.Option(
            help="During an upgrade: the model that voices were enrolled with before. "
            "[SAYSO_PREVIOUS_MODEL, none]"
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="sqlite:///file or redis://host:port/db. [SAYSO_STORE, sayso.db]"),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Where inference runs. [SAYSO_DEVICE, auto: CUDA when it is there]"),
    ] = None,
) -> None:
    """Runs the server until SIGTERM or SIGINT, then finishes the calls in flight.

    Every other setting is an environment variable; `sayso info` lists them all.
    """
    with one_line_errors():
        settings = Settings.read(
            listen=listen, model=model, previous_model=previous_model, store=store, device=device
        )
        logging.basicConfig(
            level=settings.log_level.upper(),
            stream=sys.stderr,
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from service.server import serving  # noqa: PLC0415 - the client commands start without it

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as running:
        out.print(f"serving on {running.address}", highlight=False)
        sys.stdout.flush()
        await stop.wait()
