"""Short versions unless `--long` is given, which runs what docs/operate/failures.md tells of."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.reliability.results import Seen
from tests.support.redis_server import RedisServer

_FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every campaign is slow; the hook sees the items of other folders too."""
    for item in items:
        if item.path.parent == _FOLDER and item.path.name != "test_results.py":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--long", default=False))


@pytest.fixture
def seen(long: bool) -> Seen:
    return Seen(kept=long)


@contextmanager
def _store(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'sayso.db'}"
        return
    with RedisServer(folder) as redis:
        yield redis.url


@pytest.fixture(params=["sqlite", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path) -> Iterator[str]:
    """The address of an empty store, durable when it acknowledges."""
    with _store(kind, tmp_path) as address:
        yield address
