"""Sealed stores: what lies in them, what opens it, and who is refused."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import Aborted, FailedPrecondition, Unavailable
from service.sealing import KeySet, Sealing
from service.sealing.keyring import REREAD_S
from service.settings import SealingOptions
from service.speakers.lifecycle import record_enrollment
from service.store import (
    Consent,
    RecordError,
    SealedStore,
    Speaker,
    Voiceprint,
    open_store,
    update,
    upkeep,
)
from service.store.records import encode_profile
from service.store.sealed import RecordCodec, StoredRecords
from tests.support.master_keys import Clock, CountingKms
from tests.support.redis_server import RedisServer

MakeSpeaker = Callable[..., Speaker]


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/voices.db"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def kms() -> CountingKms:
    return CountingKms()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[False, True], ids=["as they are", "turned"])
def sealing(kms: CountingKms, clock: Clock, request: pytest.FixtureRequest) -> Sealing:
    return Sealing(kms, SealingOptions(protect_templates=request.param), clock)


@pytest.fixture
async def store(address: str, sealing: Sealing) -> AsyncIterator[SealedStore]:
    async with open_store(address, timeout_s=10.0, sealing=sealing) as opened:
        yield opened


def everything(address: str, tenant: str) -> bytes:
    """All that the store holds of a tenant, in one piece."""
    if address.startswith("sqlite"):
        folder = Path(address.removeprefix("sqlite:///")).parent
        return b"\0".join(file.read_bytes() for file in folder.iterdir())
    with redis.Redis.from_url(address) as client:
        found = list(client.scan_iter(match=f"sayso:{{{tenant}}}:*"))
        hashes = [client.hgetall(key) for key in found if client.type(key) == b"hash"]
    return b"\0".join(b"\0".join((*held, *held.values())) for held in hashes)


def moved(address: str, tenant: str, *, record: str, source: str, target: str) -> None:
    """Put a record of one speaker in the place of another's, as a thief of identities would."""
    if not address.startswith("sqlite"):
        name = record if record != "record" else "voiceprint:model-a"
        with redis.Redis.from_url(address) as client:
            keys = [f"sayso:{{{tenant}}}:speaker:{name}" for name in (source, target)]
            client.hset(keys[1], name, client.hget(keys[0], name))
        return
    table = "voiceprint" if record == "record" else "speaker"
    with contextlib.closing(sqlite3.connect(address.removeprefix("sqlite:///"))) as database:
        database.execute(
            f"UPDATE {table} SET {record} = (SELECT {record} FROM {table} WHERE speaker_id = ?)"  # noqa: S608
            " WHERE speaker_id = ?",
            (source, target),
        )
        database.commit()


def plant(address: str, tenant: str, speaker_id: str, profile: bytes) -> None:
    """Put a profile of one's own in the place of the speaker's."""
    if address.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(address.removeprefix("sqlite:///"))) as database:
            database.execute(
                "UPDATE speaker SET profile = ? WHERE tenant = ? AND speaker_id = ?",
                (profile, tenant, speaker_id),
            )
            database.commit()
        return
    with redis.Redis.from_url(address) as client:
        client.hset(f"sayso:{{{tenant}}}:speaker:{speaker_id}", "profile", profile)


def full(make_speaker: MakeSpeaker, speaker_id: str = "alice") -> Speaker:
    speaker = make_speaker(
        speaker_id,
        vectors=5,
        dim=64,
        metadata={"line": "a very private line"},
        consent=Consent("form 27 of Alice", 5.0),
    )
    return record_enrollment(speaker, speaker, now=9.0)


def assert_close(found: Speaker | None, expected: Speaker) -> None:
    """The same but for the rounding of vectors that were turned there and back."""
    assert found is not None
    for held, wanted in [
        (found.voiceprints, expected.voiceprints),
        *zip(
            (version.voiceprints for version in found.history),
            (version.voiceprints for version in expected.history),
            strict=True,
        ),
    ]:
        assert held.keys() == wanted.keys()
        for model_id, voiceprint in held.items():
            np.testing.assert_allclose(
                voiceprint.vectors, wanted[model_id].vectors, atol=1e-5, rtol=0
            )
            np.testing.assert_array_equal(voiceprint.speech_s, wanted[model_id].speech_s)
    without = {"voiceprints": {}, "history": ()}
    assert replace(found, **without) == replace(expected, **without)  # type: ignore[arg-type]


async def test_round_trip(store: SealedStore, make_speaker: MakeSpeaker) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    other = await store.put(full(make_speaker, "bob"), expected_etag=None)
    assert_close(await store.get(written.tenant, "alice"), written)
    page = await store.list(written.tenant, limit=10)
    for found, expected in zip(page.speakers, (written, other), strict=True):
        assert_close(found, expected)
    assert await store.delete(written.tenant, "alice", expected_etag=written.etag)
    assert await store.get(written.tenant, "alice") is None


async def test_nothing_of_the_voice_lies_in_the_store(
    store: SealedStore, address: str, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    vectors = written.voiceprints["model-a"].vectors
    held = await asyncio.to_thread(everything, address, written.tenant)
    assert b"alice" in held or not address.startswith("sqlite"), "looked in the wrong place"
    assert b"\x81" in held
    for secret in (vectors[3].tobytes()[:16], b"private line", b"form 27", b'"enrolled"'):
        assert secret not in held


async def test_the_next_server_reads_it(
    store: SealedStore, address: str, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    async with open_store(address, timeout_s=10.0, sealing=sealing) as other:
        assert_close(await other.get(written.tenant, "alice"), written)


async def test_two_servers_that_start_a_tenant_at_once(
    store: SealedStore, address: str, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    async with open_store(address, timeout_s=10.0, sealing=sealing) as other:
        written = await asyncio.gather(
            *(
                (store, other)[n % 2].put(full(make_speaker, f"{n}"), expected_etag=None)
                for n in range(10)
            )
        )
    for speaker in written:
        assert_close(await store.get(speaker.tenant, speaker.speaker_id), speaker)
    assert (await store.keys.read(written[0].tenant)).current == 1


async def test_concurrent_appends_lose_nothing_while_keys_rotate(
    store: SealedStore, address: str, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    """Two servers, ten enrolments at once on each, and three new keys meanwhile."""

    def append(number: int) -> Callable[[Speaker | None], Speaker]:
        def change(found: Speaker | None) -> Speaker:
            held = (found or make_speaker(vectors=0)).voiceprints["model-a"]
            grown = replace(
                held,
                vectors=np.vstack([held.vectors, np.full((1, 4), number, np.float32)]),
                speech_s=np.append(held.speech_s, np.float32(number)),
            )
            return replace(found or make_speaker(), voiceprints={"model-a": grown})

        return change

    tenant = make_speaker().tenant
    async with open_store(address, timeout_s=10.0, sealing=sealing) as other:
        keyring, _ = other.records.require_keys()
        await asyncio.gather(
            *(update((store, other)[n % 2], tenant, "alice", append(n)) for n in range(20)),
            *(keyring.rotate(tenant) for _ in range(3)),
        )
    found = await store.get(tenant, "alice")
    assert found is not None
    held = found.voiceprints["model-a"]
    assert sorted(held.speech_s.tolist()) == list(range(20))
    np.testing.assert_allclose(held.vectors[:, 3], held.speech_s, atol=1e-4)


@pytest.mark.parametrize("record", ["profile", "history", "record"])
async def test_a_record_moved_under_another_speaker_does_not_open(
    store: SealedStore, address: str, make_speaker: MakeSpeaker, record: str
) -> None:
    mallory = await store.put(full(make_speaker, "mallory"), expected_etag=None)
    await store.put(full(make_speaker), expected_etag=None)
    await asyncio.to_thread(
        moved, address, mallory.tenant, record=record, source="mallory", target="alice"
    )
    with pytest.raises(RecordError, match="of another speaker, tenant or model"):
        await store.get(mallory.tenant, "alice")
    assert_close(await store.get(mallory.tenant, "mallory"), mallory)


async def test_keys_and_records_moved_to_another_tenant_do_not_open(
    store: SealedStore, make_speaker: MakeSpeaker
) -> None:
    """Not even by one who copies the wrapped key along."""
    written = await store.put(full(make_speaker), expected_etag=None)
    theirs = written.tenant + "-other"
    keys = await store.keys.read(written.tenant)
    assert await store.keys.add(theirs, 1, keys.wrapped[1])
    with pytest.raises(Unavailable, match="another tenant's"):
        await store.put(replace(written, tenant=theirs), expected_etag=None)


async def test_a_server_without_the_master_key_neither_reads_nor_writes(
    store: SealedStore, address: str, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    async with open_store(address, timeout_s=10.0) as other:
        for call in (
            other.get(written.tenant, "alice"),
            other.put(make_speaker("bob"), expected_etag=None),
            other.put(replace(written, voiceprints={}), expected_etag=written.etag),
        ):
            with pytest.raises(Unavailable, match="SAYSO_MASTER_KEY_FILE"):
                await call
    assert_close(await store.get(written.tenant, "alice"), written)
    assert await store.get(written.tenant, "bob") is None


async def test_another_master_key_does_not_open(
    store: SealedStore, address: str, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    async with open_store(address, timeout_s=10.0, sealing=Sealing(CountingKms())) as other:
        with pytest.raises(Unavailable, match="put it back"):
            await other.get(written.tenant, "alice")


async def test_records_from_before_are_read_and_sealed_when_written(
    store: SealedStore, address: str, make_speaker: MakeSpeaker
) -> None:
    async with open_store(address, timeout_s=10.0) as plain:
        before = await plain.put(full(make_speaker), expected_etag=None)
    assert await store.get(before.tenant, "alice") == before
    assert b"private line" in await asyncio.to_thread(everything, address, before.tenant)
    after = await store.put(replace(before, updated_at=99.0), expected_etag=before.etag)
    assert_close(await store.get(before.tenant, "alice"), after)
    if not address.startswith("sqlite"):  # a file forgets at its next checkpoint
        assert b"private line" not in await asyncio.to_thread(everything, address, before.tenant)


async def test_plain_records_are_refused_once_all_of_a_tenant_are_sealed(
    address: str, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    """Whoever can write to the store plants one with no key at all."""
    assert sealing.options.sealed_only is None
    async with open_store(address, timeout_s=10.0) as plain:
        before = await plain.put(full(make_speaker), expected_etag=None)
    tenant = before.tenant
    async with open_store(address, timeout_s=10.0, sealing=sealing) as store:
        assert await store.get(tenant, "alice") == before
        await store.put(full(make_speaker, "bob"), expected_etag=None)
        assert await store.get(tenant, "alice") == before
        assert await upkeep.seal(store, tenant) == 1
        await asyncio.to_thread(plant, address, tenant, "alice", encode_profile(before))
        with pytest.raises(RecordError, match="not sealed"):
            await store.get(tenant, "alice")
        page = await store.list(tenant, limit=5)
        assert [each.speaker_id for each in page.speakers] == ["bob"]


async def test_plain_records_of_a_tenant_that_began_sealed_are_refused(
    store: SealedStore, address: str, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    planted = encode_profile(written)
    await asyncio.to_thread(plant, address, written.tenant, "alice", planted)
    with pytest.raises(RecordError, match="not sealed"):
        await store.get(written.tenant, "alice")


async def test_sealed_only(
    address: str, kms: CountingKms, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    async with open_store(address, timeout_s=10.0) as plain:
        planted = await plain.put(full(make_speaker), expected_etag=None)
    strict = replace(sealing, options=SealingOptions(sealed_only=True))
    async with open_store(address, timeout_s=10.0, sealing=strict) as store:
        with pytest.raises(RecordError, match="not sealed"):
            await store.get(planted.tenant, "alice")
        written = await store.put(full(make_speaker, "bob"), expected_etag=None)
        assert_close(await store.get(planted.tenant, "bob"), written)


async def test_protection_of_templates_may_be_turned_on_and_off(
    address: str, kms: CountingKms, make_speaker: MakeSpeaker
) -> None:
    written = full(make_speaker)
    for protect in (False, True, False):
        sealing = Sealing(kms, SealingOptions(protect_templates=protect))
        async with open_store(address, timeout_s=10.0, sealing=sealing) as store:
            found = await store.get(written.tenant, "alice")
            if found is not None:
                assert_close(found, written)
            written = await store.put(written, expected_etag=written.etag or None)
            assert_close(await store.get(written.tenant, "alice"), written)


async def test_an_erased_key_ends_all_voices_here_at_once_and_elsewhere_in_time(
    store: SealedStore, address: str, sealing: Sealing, clock: Clock, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    tenant = written.tenant
    async with open_store(address, timeout_s=10.0, sealing=sealing) as other:
        assert await other.get(tenant, "alice") is not None
        keyring, _ = store.records.require_keys()
        wrapped = (await store.keys.read(tenant)).wrapped[1]
        await keyring.erase(tenant)
        await store.settle()
        for read in (
            store.get(tenant, "alice"),
            store.get_many(tenant, ["alice"]),
            store.list(tenant, limit=10),
        ):
            with pytest.raises(FailedPrecondition, match="erased"):
                await read
        with pytest.raises(FailedPrecondition, match="erased"):
            await other.put(full(make_speaker, "bob"), expected_etag=None)
        with pytest.raises(FailedPrecondition, match="erased"):
            await other.get(tenant, "alice")
    assert wrapped not in await asyncio.to_thread(everything, address, tenant)


async def test_a_server_that_only_reads_stops_within_the_time(
    store: SealedStore, address: str, sealing: Sealing, clock: Clock, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    async with open_store(address, timeout_s=10.0, sealing=sealing) as other:
        assert await other.get(written.tenant, "alice") is not None
        keyring, _ = store.records.require_keys()
        await keyring.erase(written.tenant)
        clock.now_s += REREAD_S
        with pytest.raises(FailedPrecondition, match="erased"):
            await other.get(written.tenant, "alice")


async def test_a_key_that_was_destroyed(store: SealedStore, make_speaker: MakeSpeaker) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    keyring, _ = store.records.require_keys()
    await keyring.rotate(written.tenant)
    await keyring.retire(written.tenant)
    with pytest.raises(RecordError, match="destroyed"):
        await store.get(written.tenant, "alice")


async def test_the_kms_may_be_away_once_the_key_is_known(
    store: SealedStore, kms: CountingKms, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(full(make_speaker), expected_etag=None)
    kms.away = True
    assert_close(await store.get(written.tenant, "alice"), written)
    await store.put(written, expected_etag=written.etag)
    with pytest.raises(Unavailable, match="away"):
        await store.put(make_speaker(tenant=written.tenant + "-new"), expected_etag=None)


async def test_etags_count_as_before(store: SealedStore, make_speaker: MakeSpeaker) -> None:
    first = await store.put(full(make_speaker), expected_etag=None)
    second = await store.put(replace(first, metadata={}), expected_etag=first.etag)
    with pytest.raises(Aborted):
        await store.put(replace(first, metadata={"n": "3"}), expected_etag=first.etag)
    with pytest.raises(Aborted):
        await store.put(first, expected_etag=None)
    assert_close(await store.get(first.tenant, "alice"), second)


async def test_uses_are_noted(store: SealedStore, make_speaker: MakeSpeaker) -> None:
    speaker = await store.put(full(make_speaker), expected_etag=None)
    await store.touch(speaker.tenant, "alice", "model-a", at=77.0)
    found = await store.get(speaker.tenant, "alice")
    assert found is not None
    assert found.voiceprints["model-a"].used_at == 77.0


async def test_a_record_moved_to_another_model_does_not_open(
    tmp_path: Path, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    path = tmp_path / "voices.db"
    other = Voiceprint("model-b", np.ones((1, 4), np.float32), np.ones(1, np.float32), 5.0)
    speaker = make_speaker()
    speaker = replace(speaker, voiceprints={**speaker.voiceprints, "model-b": other})
    async with open_store(f"sqlite:///{path}", sealing=sealing) as store:
        await store.put(speaker, expected_etag=None)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE voiceprint SET model_id = 'm' WHERE model_id = 'model-b'")
            database.commit()
        with pytest.raises(RecordError, match="model"):
            await store.get(speaker.tenant, "alice")


class OneKey:
    """A `KeyTable` of version 1 for everybody, wrapped by no master key at all."""

    async def read(self, tenant: str) -> KeySet:
        return KeySet(1, {1: bytes(range(32))})

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        return key

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return wrapped


sealed_like = st.builds(
    lambda version, flags, rest: b"\x81" + version.to_bytes(4, "little") + bytes((flags,)) + rest,
    st.sampled_from([0, 1, 2, 2**32 - 1]),
    st.integers(0, 255),
    st.binary(max_size=60),
)
record = st.binary(max_size=60) | sealed_like


@settings(deadline=None, max_examples=200)
@given(record, record, record)
def test_any_bytes(profile: bytes, history: bytes, voiceprint: bytes) -> None:
    """Refused as a record, and nothing else."""
    one: Any = OneKey()
    records = RecordCodec(one, Sealing(one))
    stored = StoredRecords("alice", "e", profile, history, [("m", voiceprint, None)])
    with pytest.raises(RecordError):
        asyncio.run(records.decode("t", stored))


async def test_without_a_master_key_a_read_runs_no_sealing_code(
    tmp_path: Path, make_speaker: MakeSpeaker
) -> None:
    called: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_filename)

    async with open_store(f"sqlite:///{tmp_path}/voices.db") as plain:
        speaker = await plain.put(make_speaker(), expected_etag=None)
        sys.setprofile(note)
        try:
            found = await plain.get(speaker.tenant, speaker.speaker_id)
        finally:
            sys.setprofile(None)
    assert found == speaker
    assert sum(name.endswith("service/store/records.py") for name in called) > 0
    assert not [name for name in called if "/service/sealing/" in name]
