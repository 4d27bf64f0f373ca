"""Upkeep of a Redis with many speakers, and with many keys that are not ours."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.store import Speaker, open_store
from tests.support.redis_server import RedisServer

MakeSpeaker = Callable[..., Speaker]

_FILL = """
for i = 1, tonumber(ARGV[1]) do redis.call('SET', ARGV[2] .. i .. ARGV[3], '') end
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, "--save", "") as running:
        yield running


@pytest.mark.parametrize(
    ("count", "before", "after"),
    [("300000", "session:", ""), ("120000", "sayso:{other}:speaker:", "s")],
)
async def test_tenants_are_found_among_any_number_of_keys(
    count: str, before: str, after: str, server: RedisServer, make_speaker: MakeSpeaker
) -> None:
    """Each answer has the store's patience, a quarter of a second here, and not all of them."""
    await asyncio.to_thread(server.command, "EVAL", _FILL, "0", count, before, after)
    async with open_store(server.url, timeout_s=10.0) as patient:
        speaker = await patient.put(make_speaker(), expected_etag=None)
    async with open_store(server.url, timeout_s=0.25) as store:
        assert await store.tenants() == [speaker.tenant]
