"""What a store keeps: records in the clear and sealed, and wrapped keys; only `SaysoError`s, of
which `RecordError` is one, are documented."""

import asyncio
import base64
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import numpy as np

from service.errors import SaysoError
from service.sealing import LocalMaster, Sealing
from service.sealing.keyring import KeySet
from service.settings import SealingOptions
from service.store.records import (
    Consent,
    Speaker,
    SpeakerState,
    Version,
    Voiceprint,
    decode_history,
    decode_speaker,
    decode_voiceprint,
    encode_history,
    encode_profile,
    encode_voiceprint,
)
from service.store.sealed import NewRecords, RecordCodec, StoredRecords
from tests.fuzz import surgery
from tests.fuzz.harness import Check, Harness, limited, stateless

_AT_S = 1_700_000_000.0
_MASTER = base64.b64encode(bytes(range(32))).decode()
_LENGTHS = struct.Struct("<HH")
_HISTORY_HEADER = struct.Struct("<HI")


def _speaker(**changes: object) -> Speaker:
    held = Voiceprint(
        "m", np.eye(2, 4, dtype=np.float32), np.array([3, 4], np.float32), _AT_S, used_at=_AT_S
    )
    fields: dict[str, object] = {
        "metadata": {"branch": "Zürich"},
        "consent": Consent("form 7", _AT_S),
        "voiceprints": {"m": held},
        "enrolled_at": _AT_S,
        "history": (Version(SpeakerState.PENDING), Version(SpeakerState.ENROLLED, {"m": held})),
    }
    return Speaker("t", "alice", SpeakerState.ENROLLED, _AT_S, _AT_S, **fields | changes)  # type: ignore[arg-type]


def _speakers() -> Iterator[Speaker]:
    yield _speaker()
    yield _speaker(metadata={}, consent=None, history=(), voiceprints={}, enrolled_at=None)
    yield _speaker(opted_out_at=_AT_S, awaits_confirmation=True)


def _packed(*records: bytes) -> bytes:
    """Three records in one input: the lengths of two, and then all of them."""
    profile, history, voiceprint = records
    return _LENGTHS.pack(len(profile), len(history)) + profile + history + voiceprint


def _unpacked(data: bytes) -> tuple[bytes, bytes, bytes]:
    head, rest = data[: _LENGTHS.size], data[_LENGTHS.size :]
    profile, history = _LENGTHS.unpack(head.ljust(_LENGTHS.size, b"\0"))
    return rest[:profile], rest[profile : profile + history], rest[profile + history :]


def check_records(data: bytes) -> None:
    """Each record by itself and as a speaker."""
    profile, history, voiceprint = _unpacked(data)
    for decode in (decode_history, lambda record: decode_voiceprint("m", record)):
        for record in (profile, history, voiceprint):
            try:
                decode(record)
            except SaysoError as refused:
                assert refused.message
    try:
        decode_speaker(
            "t",
            "alice",
            etag="1",
            profile=profile,
            history=history,
            voiceprints=[("m", voiceprint, None)] if voiceprint else [],
        )
    except SaysoError as refused:
        assert refused.message


def _record_seeds() -> Iterator[bytes]:
    for speaker in _speakers():
        prints = [encode_voiceprint(held) for held in speaker.voiceprints.values()]
        profile = encode_profile(speaker)
        yield _packed(profile, encode_history(speaker.history), b"".join(prints))
        yield _packed(profile, b"", b"")
    yield b"\0\0" + struct.pack("<H", 0xFFFF) + encode_history(_speaker().history)


def _changed(data: bytes, chance: Random) -> bytes:
    """The JSON of a profile, or that in front of a history, operated on."""
    profile, history, voiceprint = _unpacked(data)
    if chance.random() < 0.5 or len(history) < _HISTORY_HEADER.size:
        return _packed(surgery.operated(profile, chance), history, voiceprint)
    schema, size = _HISTORY_HEADER.unpack_from(history)
    rest = history[_HISTORY_HEADER.size :]
    head = surgery.operated(rest[:size], chance)
    history = _HISTORY_HEADER.pack(schema, len(head)) + head + rest[size:]
    return _packed(profile, history, voiceprint)


class _Unwrapped:
    """A `Kms` whose keys are as they are."""

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        return key

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return wrapped

    async def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        return wrapped


class _OneKey:
    """A `KeyTable` of one key that never changes, so that a sealed input opens in any process."""

    async def read(self, tenant: str) -> KeySet:
        return KeySet(1, {1: bytes(32)})

    async def add(
        self, tenant: str, version: int, wrapped: bytes, *, if_empty: bool = False
    ) -> bool:
        return False

    async def replace(self, tenant: str, version: int, wrapped: bytes, *, expected: bytes) -> bool:
        return False

    async def retire(self, tenant: str, *, before: int) -> None: ...

    async def erase(self, tenant: str) -> None: ...


def _sealing_records(*, protect_templates: bool = False) -> RecordCodec:
    return RecordCodec(_OneKey(), Sealing(_Unwrapped(), SealingOptions(protect_templates)))


@contextmanager
def _opening_sealed() -> Iterator[Check]:
    """Records that may be sealed, and the whole input as a wrapped key."""
    records, master = _sealing_records(), LocalMaster.from_text(_MASTER)
    with asyncio.Runner() as runner:

        def check(data: bytes) -> None:
            profile, history, voiceprint = _unpacked(data)
            prints = [("m", voiceprint, None)] if voiceprint else []
            stored = StoredRecords("alice", "1", profile, history, prints)
            for coroutine in (records.decode("t", stored), master.unwrap(data, b"context")):
                try:
                    runner.run(coroutine)
                except SaysoError as refused:
                    assert refused.message

        yield limited(check)


def _sealed_seeds() -> Iterator[bytes]:
    for turned in (False, True):
        for speaker in _speakers():
            yield asyncio.run(_sealed(speaker, protect_templates=turned))
    yield asyncio.run(LocalMaster.from_text(_MASTER).wrap(bytes(32), b"context"))
    yield from _record_seeds()


async def _sealed(speaker: Speaker, *, protect_templates: bool) -> bytes:
    sealed: list[NewRecords] = []

    async def keep(written: NewRecords) -> bool:
        sealed.append(written)
        return True

    await _sealing_records(protect_templates=protect_templates).write(speaker, keep)
    [written] = sealed
    prints = b"".join(record for _, record, _ in written.voiceprints)
    return _packed(written.profile, written.history, prints)


HARNESSES = (
    stateless("records", check_records, _record_seeds, _changed),
    Harness("sealed", _opening_sealed, _sealed_seeds),
)
