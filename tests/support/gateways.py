"""A real gateway on this event loop, and what tests read of it."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.server import RunningGateway, open_gateway
from gateway.settings import Settings
from tests.support.sayso_server import SaysoServer

_DECIDED = re.compile(r"call (\S+): ([A-Z_]+), decision (\S+)")


@contextlib.asynccontextmanager
async def run_gateway(server: SaysoServer | str, **settings: Any) -> AsyncIterator[RunningGateway]:
    address = server if isinstance(server, str) else server.address
    values: dict[str, Any] = {"listen": "127.0.0.1:0", "server": address, "drain_s": 5.0}
    read = Settings(**(values | settings))
    read.check()
    async with open_gateway(read) as running:
        yield running


def read_outcomes(log: pytest.LogCaptureFixture) -> dict[str, str]:
    """The outcome of each call that was decided, by its id, from the gateway's log."""
    found = filter(None, (_DECIDED.fullmatch(record.getMessage()) for record in log.records))
    return {match[1]: match[2] for match in found}
