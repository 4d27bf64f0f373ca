"""The HTTP endpoint that Prometheus scrapes, on an address of its own.

Worker processes share it: their parent sets PROMETHEUS_MULTIPROC_DIR to an empty folder before
any of them imports `prometheus_client`, and serves what all of them write there.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.errors import SettingsError
from service.network import parse_host_and_port

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def serve_metrics(listen: str) -> Iterator[str]:
    """Serve metrics at `http://host:port/metrics`; yields host:port.

    Serves the metrics of all worker processes if `FOLDER_VARIABLE` is set, otherwise those of this
    process. Port 0
    picks a free port. Raises `SettingsError` for an address that cannot be listened on.
    """
    host, port = parse_host_and_port(
        listen, variable="SAYSO_METRICS_LISTEN", example="127.0.0.1:9464"
    )
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), _open_registry())
    except OSError as error:
        raise SettingsError(
            f"SAYSO_METRICS_LISTEN: cannot listen on {listen}; is another server running there?"
        ) from error
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def restore_folder(folder: Path) -> None:
    """Recreate the folder of workers' metrics if a cleaner of temporary files removed it.

    Without it no worker could start. Running workers go on counting in deleted files.
    """
    if not folder.is_dir():
        log.error("%s was removed: metrics of workers that run are lost until they restart", folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def forget_worker(pid: int) -> None:
    """Drop the gauges of a worker process that has ended; its counters stay."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _open_registry() -> CollectorRegistry:
    if FOLDER_VARIABLE not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
