"""The codec gives back what it was given, and refuses what it cannot read."""

import json
import string
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from service.store import Consent, RecordError, Speaker, SpeakerState, Version, Voiceprint
from service.store.records import (
    decode_history,
    decode_speaker,
    decode_voiceprint,
    encode_history,
    encode_profile,
    encode_voiceprint,
)

MakeSpeaker = Callable[..., Speaker]

times = st.floats(0, 1e11)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)


@st.composite
def voiceprints(draw: st.DrawFn) -> Voiceprint:
    n, dim = draw(st.integers(0, 5)), draw(st.integers(1, 8))
    floats = st_numpy.arrays(np.float32, n * (dim + 1), elements=st.floats(width=32)).map(np.copy)
    values = draw(floats)
    return Voiceprint(
        model_id=draw(names),
        vectors=values[n:].reshape(n, dim),
        speech_s=values[:n],
        created_at=draw(times),
        used_at=draw(st.none() | times),
        adapted=draw(st.integers(0, n)),
    )


def test_a_voice_that_no_call_was_added_to_is_written_as_earlier_servers_read_it() -> None:
    held = Voiceprint("m", np.eye(2, dtype=np.float32), np.ones(2, np.float32), 0.0)
    assert encode_voiceprint(held)[0] == 1
    assert encode_voiceprint(replace(held, adapted=1))[0] == 2


def test_more_adapted_vectors_than_there_are_is_a_torn_record() -> None:
    held = Voiceprint("m", np.eye(2, dtype=np.float32), np.ones(2, np.float32), 0.0, adapted=2)
    record = bytearray(encode_voiceprint(held))
    record[16] = 3
    with pytest.raises(RecordError, match="torn"):
        decode_voiceprint("m", bytes(record))


def by_model(prints: list[Voiceprint]) -> dict[str, Voiceprint]:
    return {voiceprint.model_id: voiceprint for voiceprint in prints}


def never_used(voiceprint: Voiceprint) -> Voiceprint:
    return replace(voiceprint, used_at=None)


versions = st.builds(
    Version,
    state=st.sampled_from(SpeakerState),
    voiceprints=st.lists(voiceprints().map(never_used), max_size=2).map(by_model),
    enrolled_at=st.none() | times,
    awaits_confirmation=st.booleans(),
    adapted=st.booleans(),
)


@st.composite
def speakers(draw: st.DrawFn) -> Speaker:
    return Speaker(
        tenant=draw(names),
        speaker_id=draw(names),
        state=draw(st.sampled_from(SpeakerState)),
        voiceprints=draw(st.lists(voiceprints(), max_size=3).map(by_model)),
        metadata=draw(st.dictionaries(text, text, max_size=3)),
        consent=draw(st.none() | st.builds(Consent, reference=text, at=times)),
        created_at=draw(times),
        updated_at=draw(times),
        enrolled_at=draw(st.none() | times),
        opted_out_at=draw(st.none() | times),
        awaits_confirmation=draw(st.booleans()),
        adapted_from=tuple(draw(st.lists(text, max_size=2))),
        history=tuple(draw(st.lists(versions, max_size=2))),
        etag=draw(st.text(string.hexdigits, min_size=1)),
    )


def decoded(speaker: Speaker, **changes: object) -> Speaker:
    arguments: dict[str, object] = {
        "tenant": speaker.tenant,
        "speaker_id": speaker.speaker_id,
        "etag": speaker.etag,
        "profile": encode_profile(speaker),
        "history": encode_history(speaker.history),
        "voiceprints": [
            (model_id, encode_voiceprint(held), held.used_at)
            for model_id, held in speaker.voiceprints.items()
        ],
    }
    return decode_speaker(**(arguments | changes))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(speakers())
def test_round_trip(speaker: Speaker) -> None:
    found = decoded(speaker)
    assert found == speaker
    for model_id, held in speaker.voiceprints.items():
        vectors = found.voiceprints[model_id].vectors
        assert vectors.dtype == np.float32
        assert vectors.shape == held.vectors.shape
        np.testing.assert_array_equal(vectors, held.vectors)
        np.testing.assert_array_equal(found.voiceprints[model_id].speech_s, held.speech_s)


def test_bytes_of_schema_1() -> None:
    """What stores out there hold must stay readable."""
    voiceprint = Voiceprint(
        "m", np.array([[1.0, -2.0]], np.float32), np.array([1.5], np.float32), created_at=2.0
    )
    record = "01000200010000000000000000000040" + "0000c03f" + "0000803f" + "000000c0"
    profile = (
        '{"schema":1,"tenant":"t","speaker_id":"é","state":"opted_out","metadata":{},'
        '"consent":{"reference":"c","at":0.5},"created_at":1.0,"updated_at":2.5}'
    )
    found = decode_speaker(
        *("t", "é"),
        etag="e",
        profile=profile.encode(),
        history=b"",
        voiceprints=[("m", bytes.fromhex(record), None)],
    )
    assert found == Speaker(
        *("t", "é", SpeakerState.OPTED_OUT, 1.0, 2.5),
        voiceprints={"m": voiceprint},
        consent=Consent("c", 0.5),
        etag="e",
    )


def test_transposed_vectors_are_stored_by_row() -> None:
    columns = np.arange(6, dtype=np.float32).reshape(2, 3).T
    voiceprint = Voiceprint("m", columns, np.ones(3, np.float32), created_at=1.0)
    found = decode_voiceprint("m", encode_voiceprint(voiceprint))
    np.testing.assert_array_equal(found.vectors, columns)


@settings(deadline=None, max_examples=50)
@given(voiceprints(), st.data())
def test_torn_voiceprint(voiceprint: Voiceprint, data: st.DataObject) -> None:
    record = encode_voiceprint(voiceprint)
    length = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(RecordError, match="torn"):
        decode_voiceprint(voiceprint.model_id, record[:length])
    with pytest.raises(RecordError, match="torn"):
        decode_voiceprint(voiceprint.model_id, record + b"\0")


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100))
def test_any_bytes(record: bytes) -> None:
    """Read, or refused; nothing else."""
    for read in (
        lambda: decode_voiceprint("m", record),
        lambda: decode_history(record),
        lambda: decode_speaker("t", "s", etag="e", profile=record, history=b"", voiceprints=[]),
    ):
        try:
            read()
        except RecordError:
            continue


def test_newer_schema(make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker()
    held = encode_voiceprint(speaker.voiceprints["model-a"])
    with pytest.raises(RecordError, match=r"schema 99.*upgrade"):
        decoded(speaker, voiceprints=[("model-a", bytes([99]) + held[1:], None)])
    with pytest.raises(RecordError, match=r"schema 99.*upgrade"):
        decoded(speaker, history=bytes([99]) + encode_history(())[1:])
    document = json.loads(encode_profile(speaker)) | {"schema": 99}
    with pytest.raises(RecordError, match=r"schema 99.*upgrade"):
        decoded(speaker, profile=json.dumps(document).encode())


def test_record_of_another_speaker(make_speaker: MakeSpeaker) -> None:
    with pytest.raises(RecordError, match="another speaker"):
        decoded(make_speaker("alice"), profile=encode_profile(make_speaker("bob")))


@pytest.mark.parametrize(
    ("vectors", "speech_s"),
    [
        (np.zeros((2, 3)), np.zeros(2, np.float32)),
        (np.zeros((2, 3), np.float32), np.zeros(2)),
        (np.zeros((2, 3), np.float32), np.zeros(3, np.float32)),
        (np.zeros(3, np.float32), np.zeros(3, np.float32)),
    ],
)
def test_ill_formed_voiceprint(vectors: np.ndarray, speech_s: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a voiceprint"):
        Voiceprint("m", vectors, speech_s, created_at=1.0)


@pytest.mark.parametrize(("tenant", "speaker_id"), [("", "a"), ("t", ""), ("t", "a\0b")])
def test_ill_formed_speaker(make_speaker: MakeSpeaker, tenant: str, speaker_id: str) -> None:
    with pytest.raises(ValueError, match="non-empty string without NUL"):
        make_speaker(speaker_id, tenant=tenant)


def test_voiceprints_are_keyed_by_model(make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker()
    with pytest.raises(ValueError, match="keyed"):
        replace(speaker, voiceprints={"model-b": speaker.voiceprints["model-a"]})
