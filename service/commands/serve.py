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

from service.commands.terminal import one_line_errors, out, print_json, say
from service.observability import logs
from service.settings import Settings
from service.workers import (
    READY,
    Command,
    count_worker_threads,
    follow_parent,
    reserve_port,
    run_workers,
    watch_stop_signals,
)

_EXIT_S = 10.0  # seconds that a worker may take to exit after its calls in flight
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Say where it serves in JSON: one object, once ready.")
    ] = False,
) -> None:
    """Run the server until SIGTERM or SIGINT, then finish the calls in flight.

    Every other setting is an environment variable; `sayso info` lists them all.

    Example: sayso serve --listen 127.0.0.1:50051 --store sqlite:///sayso.db
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
        logs.setup_logging(level=settings.log_level, form=settings.log_format)
        if worker:
            asyncio.run(_serve(settings, worker=True, as_json=False))
            return
        with _serve_metrics(settings.metrics_listen, shared=settings.workers > 1) as hooks:
            if settings.workers > 1:
                asyncio.run(_serve_with_workers(settings, flags, *hooks, as_json=as_json))
            else:
                asyncio.run(_serve(settings, worker=False, as_json=as_json))


async def _serve(settings: Settings, *, worker: bool, as_json: bool) -> None:
    stop = watch_stop_signals()
    share_malloc_arena()
    from service.commands import banner  # noqa: PLC0415 - the parent of workers needs neither
    from service.server import open_server  # noqa: PLC0415

    if worker:
        follow_parent()
    async with open_server(settings, share_port=worker) as running:
        freeze_objects()
        expiry = _watch_certificates(settings)
        await asyncio.sleep(0)  # let it check once before the server is announced
        facts = banner.list_facts(settings, running.session.contract, running.address)
        on_terminal = sys.stdout.isatty() and sys.stderr.isatty() and not as_json
        if not on_terminal:
            log.info("started: %s", banner.join_facts(facts))
        _announce(running.address, facts, as_json=as_json)
        if on_terminal:
            out.print(banner.make_table(facts))
        await stop.wait()
        expiry.cancel()


def share_malloc_arena() -> None:
    """Make all threads allocate from one arena: by default glibc gives each its own, which keeps
    the memory of the longest recording it had. Other C libraries have no `mallopt`."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, 1)


def freeze_objects() -> None:
    """Freeze all live objects, so that full collections scan only newer ones."""
    gc.freeze()
    gc.collect()  # restart the count of objects until the next full collection


def _watch_certificates(settings: Settings) -> "asyncio.Task[None]":
    from service.access.tls import Certificates, announce_expiry  # noqa: PLC0415 - as in `_serve`

    return asyncio.create_task(announce_expiry(Certificates.from_files(settings.tls)))


async def _serve_with_workers(
    settings: Settings,
    flags: Mapping[str, object],
    before_start: Callable[[], None],
    after_end: Callable[[int], None],
    *,
    as_json: bool,
) -> None:
    stop = asyncio.create_task(watch_stop_signals().wait())
    with reserve_port(settings.listen) as address:
        threads = settings.threads or count_worker_threads(settings.workers)
        overrides = {**flags, "listen": address, "threads": threads}
        command = Command(
            # -P: do not import modules from the working directory.
            (sys.executable, "-P", "-m", "service", "serve", "--worker"),
            {**os.environ, **_make_environment(overrides)},
            settings.drain_s + _EXIT_S,
            after_end,
            before_start,
        )
        workers_task = asyncio.create_task(
            run_workers(
                command,
                settings.workers,
                lambda: _announce(address, {"workers": str(settings.workers)}, as_json=as_json),
            )
        )
        await asyncio.wait({stop, workers_task}, return_when=asyncio.FIRST_COMPLETED)
        workers_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await workers_task


@contextlib.contextmanager
def _serve_metrics(
    listen: str | None, *, shared: bool
) -> Iterator[tuple[Callable[[], None], Callable[[int], None]]]:
    """Serve metrics if there is an address for them, those of all workers if `shared`. Yields two
    callbacks: one to call before a worker starts, one with the process id of a worker that
    ended."""
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


def _make_environment(overrides: Mapping[str, object]) -> dict[str, str]:
    """Return settings as the environment variables that a worker reads."""
    return {
        f"SAYSO_{name.upper()}": str(value)
        for name, value in overrides.items()
        if value is not None
    }


def _announce(address: str, facts: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json({"address": address, "started": facts})
    else:
        say(f"{READY}{address}")
    sys.stdout.flush()
