"""One real server for each store, shared by a module's tests, and voices to send it.

Take `LocalServer`, in this process, unless the test is about a process: its signals, logs, metrics
endpoint, exit code or death. Then take `SaysoServer`, whose start costs two seconds of a core.
"""

from collections.abc import Iterator

import pytest
from sayso import Client

from tests.support.local_server import LocalServer
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        with LocalServer(store=f"sqlite:///{folder / 'sayso.db'}") as running:
            yield running
        return
    with RedisServer(folder) as redis, LocalServer(store=redis.url) as running:
        yield running


@pytest.fixture(scope="module")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("server")
    with LocalServer(store=f"sqlite:///{folder / 'sayso.db'}") as running:
        yield running


@pytest.fixture
def sayso(server: LocalServer) -> Iterator[Client]:
    with server.client() as client:
        yield client
