"""One real server for each store, shared by a module's tests, and voices to send it."""

from collections.abc import Iterator

import pytest

from service.client import Client
from service.settings import SHIPPED_MODEL
from tests.support.redis_server import RedisServer
from tests.support.sayso_server import SaysoServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not SHIPPED_MODEL.exists():
        for item in items:
            item.add_marker(pytest.mark.skip(reason=f"no {SHIPPED_MODEL.name} in models/ yet"))


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SaysoServer]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        with SaysoServer(store=f"sqlite:///{folder / 'sayso.db'}") as running:
            yield running
        return
    with RedisServer(folder) as redis, SaysoServer(store=redis.url) as running:
        yield running


@pytest.fixture(scope="module")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaysoServer]:
    folder = tmp_path_factory.mktemp("server")
    with SaysoServer(store=f"sqlite:///{folder / 'sayso.db'}") as running:
        yield running


@pytest.fixture
def sayso(server: SaysoServer) -> Iterator[Client]:
    with server.client() as client:
        yield client
