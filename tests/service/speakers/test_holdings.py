"""Everything that is held of one speaker."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import NotFound
from service.speakers.holdings import holdings
from service.store import Group, LockRule, Speaker, SpeakerState, Store, Voiceprint, open_store
from tests.support.redis_server import RedisServer

RULE = LockRule(failures=3, lock_s=60.0, longest_s=200.0)


def speaker(speaker_id: str, tenant: str = "t") -> Speaker:
    held = Voiceprint("model-a", np.eye(2, 4, dtype=np.float32), np.ones(2, np.float32), 1.0)
    return Speaker(
        tenant,
        speaker_id,
        SpeakerState.ENROLLED,
        created_at=1.0,
        updated_at=2.0,
        voiceprints={"model-a": held},
        metadata={"branch": "12"},
    )


@pytest.fixture(params=["sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        async with open_store(f"sqlite:///{tmp_path}/voices.db", timeout_s=10.0) as opened:
            yield opened
    else:
        with RedisServer(tmp_path) as server:
            async with open_store(server.url, timeout_s=10.0) as opened:
                yield opened


async def test_all_of_it(store: Store) -> None:
    stored = await store.put(speaker("alice"), expected_etag=None)
    await store.put(speaker("bob"), expected_etag=None)
    await store.put(speaker("alice", "other"), expected_etag=None)
    for name in ("vip", "fraud", "deleted", "other"):
        await store.groups.create("t", Group(name, "", 1.0))
    await store.groups.create("other", Group("elsewhere", "", 1.0))
    for name in ("vip", "fraud", "deleted"):
        await store.groups.add("t", name, ["alice", "bob"])
    await store.groups.add("t", "other", ["bob"])
    await store.groups.add("other", "elsewhere", ["alice"])
    await store.groups.delete("t", "deleted")
    tally = await store.failures.change("t", "alice", lambda tally: tally.failed(5.0, RULE))
    held = await holdings(store, "t", "alice")
    assert held.speaker == stored
    assert list(held.groups) == ["fraud", "vip"]
    assert held.failures == tally
    await store.groups.remove("t", "vip", ["alice"])
    assert list((await holdings(store, "t", "alice")).groups) == ["fraud"]


async def test_one_of_whom_nothing_is_held(store: Store) -> None:
    with pytest.raises(NotFound):
        await holdings(store, "t", "alice")
    await store.put(speaker("alice"), expected_etag=None)
    await store.delete("t", "alice")
    with pytest.raises(NotFound):
        await holdings(store, "t", "alice")
    assert list(await store.groups.of("t", "alice")) == []
