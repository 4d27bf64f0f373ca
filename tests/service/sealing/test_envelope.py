"""What a sealed record is bound to, and that nothing else opens it."""

from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st

from service.sealing.envelope import (
    DataKey,
    Kind,
    Place,
    is_rotated,
    is_sealed,
    make_record_prefix,
    open_record,
    read_key_version,
    seal_record,
)

KEY = DataKey(7, bytes(range(32)))
PLACE = Place("bank", "alice", Kind.VOICEPRINT, "model-a")


def seal(plain: bytes, *, key: DataKey = KEY, place: Place = PLACE, turned: bool = False) -> bytes:
    return seal_record(
        key, key.cipher_for(place.speaker_id), place, plain, templates_rotated=turned
    )


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.booleans())
def test_round_trip(plain: bytes, turned: bool) -> None:
    record = seal(plain, turned=turned)
    assert open_record(KEY.cipher_for("alice"), PLACE, record) == plain
    assert is_sealed(record)
    assert (read_key_version(record), is_rotated(record)) == (7, turned)
    assert record.startswith(make_record_prefix(7, templates_rotated=turned))


@pytest.mark.parametrize(
    "place",
    [
        replace(PLACE, tenant="bank2"),
        replace(PLACE, speaker_id="bob"),
        replace(PLACE, kind=Kind.HISTORY),
        replace(PLACE, model_id="model-b"),
        Place("banka", "lice", Kind.VOICEPRINT, "model-a"),
    ],
)
def test_another_place_does_not_open_it_even_with_its_key(place: Place) -> None:
    with pytest.raises(InvalidTag):
        open_record(KEY.cipher_for("alice"), place, seal(b"voice"))


def test_another_speakers_key_does_not_open_it() -> None:
    with pytest.raises(InvalidTag):
        open_record(KEY.cipher_for("bob"), PLACE, seal(b"voice"))


def test_another_tenants_key_does_not_open_it() -> None:
    with pytest.raises(InvalidTag):
        open_record(DataKey(7, bytes(32)).cipher_for("alice"), PLACE, seal(b"voice"))


def test_every_byte_counts() -> None:
    record = seal(b"voice")
    for at in range(len(record)):
        changed = bytearray(record)
        changed[at] ^= 1
        with pytest.raises(InvalidTag):
            open_record(KEY.cipher_for("alice"), PLACE, bytes(changed))


def test_the_same_record_is_never_sealed_the_same() -> None:
    records = {seal(b"voice") for _ in range(1000)}
    assert len({record[6:18] for record in records}) == 1000


def test_no_plain_record_looks_sealed() -> None:
    for plain in (
        b"",
        b'{"schema":2}',
        b"\x01\x00" + bytes(40),
        make_record_prefix(1, templates_rotated=True),
    ):
        assert not is_sealed(plain)
        assert not is_rotated(plain)
