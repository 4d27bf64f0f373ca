"""`sayso serve`: the server, in one process or several, until it is told to stop."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands.terminal import one_line_errors, out
from service.observability import logs
from service.settings import Settings
from service.workers import (
    READY,
    Command,
    count_worker_threads,
    follow_parent,
    keep,
    reserve_port,
    stop_signal,
)

_EXIT_S = 10.0  # that a worker may take beyond its calls in flight
_M_ARENA_MAX = -8  # malloc.h

log = logging.getLogger(__name__)


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
        Literal["auto", "cpu", "cuda", "tensorrt"] | None,
        typer.Option(help="Where inference runs. [SAYSO_DEVICE, auto: CUDA when it is there]"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that share the port, and the cores unless SAYSO_THREADS says how many "
            "threads each has. [SAYSO_WORKERS, 1]",
        ),
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(
            help="host:port for Prometheus to read metrics of all processes. "
            "[SAYSO_METRICS_LISTEN, none]",
        ),
    ] = None,
    allow_uncalibrated: Annotated[
        bool | None,
        typer.Option(
            "--allow-uncalibrated",
            help="Start with a model without calibration: voices are enrolled and embedded, none "
            "is verified. [SAYSO_ALLOW_UNCALIBRATED, false]",
        ),
    ] = None,
    worker: Annotated[bool, typer.Option(hidden=True, help="One of several processes.")] = False,
) -> None:
    """Runs the server until SIGTERM or SIGINT, then finishes the calls in flight.

    Every other setting is an environment variable; `sayso info` lists them all.
    """
    flags = {
        "listen": listen,
        "model": model,
        "previous_model": previous_model,
        "store": store,
        "device": device,
        "workers": workers,
        "metrics_listen": metrics_listen,
        "allow_uncalibrated": allow_uncalibrated,
    }
    with one_line_errors():
        settings = Settings.read(**flags)
        logs.setup(level=settings.log_level, form=settings.log_format)
        if worker:
            asyncio.run(_serve(settings, worker=True))
            return
        with _metrics(settings.metrics_listen, shared=settings.workers > 1) as watched:
            if settings.workers > 1:
                asyncio.run(_serve_from(settings, flags, *watched))
            else:
                asyncio.run(_serve(settings, worker=False))


async def _serve(settings: Settings, *, worker: bool) -> None:
    stop = stop_signal()
    share_malloc_arena()
    from service.commands.banner import describe  # noqa: PLC0415 - the parent of workers does without them
    from service.server import serving  # noqa: PLC0415

    if worker:
        follow_parent()
    async with serving(settings, share_port=worker) as running:
        freeze_objects()
        expiry = _watch_certificates(settings)
        await asyncio.sleep(0)  # its first look comes before anything is announced
        log.info("started: %s", describe(settings, running.session.contract, running.address))
        _announce(running.address)
        await stop.wait()
        expiry.cancel()


def share_malloc_arena() -> None:
    """Makes all threads allocate from one arena: glibc gives each its own by default, which keeps
    the memory of the longest recording it has had. Other C libraries have no `mallopt`."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, 1)


def freeze_objects() -> None:
    """Freezes all live objects, so that full collections scan only newer ones."""
    gc.freeze()
    gc.collect()  # which counts from here when the next full collection is due


def _watch_certificates(settings: Settings) -> "asyncio.Task[None]":
    from service.access.tls import Certificates, announce_expiry  # noqa: PLC0415 - as in `_serve`

    return asyncio.create_task(announce_expiry(Certificates.from_files(settings.tls)))


async def _serve_from(
    settings: Settings,
    flags: Mapping[str, object],
    starting: Callable[[], None],
    ended: Callable[[int], None],
) -> None:
    stop = asyncio.create_task(stop_signal().wait())
    with reserve_port(settings.listen) as address:
        threads = settings.threads or count_worker_threads(settings.workers)
        chosen = {**flags, "listen": address, "threads": threads}
        command = Command(
            # -P: no module of the working directory is taken for one of the server's.
            (sys.executable, "-P", "-m", "service", "serve", "--worker"),
            {**os.environ, **_variables(chosen)},
            settings.drain_s + _EXIT_S,
            ended,
            starting,
        )
        kept = asyncio.create_task(keep(command, settings.workers, lambda: _announce(address)))
        await asyncio.wait({stop, kept}, return_when=asyncio.FIRST_COMPLETED)
        kept.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await kept


@contextlib.contextmanager
def _metrics(
    listen: str | None, *, shared: bool
) -> Iterator[tuple[Callable[[], None], Callable[[int], None]]]:
    """Serves metrics where there is an address for them, `shared` those of workers; gives what is
    to be called before a worker starts, and what with the process id of one that has ended."""
    if listen is None:
        yield lambda: None, lambda pid: None
        return
    from service.observability.exposition import (  # noqa: PLC0415 - the client commands start without it
        FOLDER_VARIABLE,
        forget_worker,
        restore_folder,
        serve_metrics,
    )

    with tempfile.TemporaryDirectory(prefix="sayso-metrics-") as folder:
        if shared:
            os.environ[FOLDER_VARIABLE] = folder  # after the import: this process counts nothing
        with serve_metrics(listen) as address:
            log.info("metrics at http://%s/metrics", address)
            yield lambda: restore_folder(Path(folder)), forget_worker


def _variables(chosen: Mapping[str, object]) -> dict[str, str]:
    """Settings as the environment variables that a worker reads."""
    return {
        f"SAYSO_{name.upper()}": str(value) for name, value in chosen.items() if value is not None
    }


def _announce(address: str) -> None:
    out.print(f"{READY}{address}", highlight=False)
    sys.stdout.flush()
