"""What fuzzing found, each by an input made here; `docs/security/fuzzing.md` tells of them."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from sayso.v1 import speaker_pb2
from sayso.v1 import verification_pb2 as pb

from service.access import TokenRules, Tokens
from service.audio.decoding import AudioFormat, decode
from service.audit.chain import BrokenChain, verify
from service.contract import METADATA_KEY, Contract
from service.errors import AudioError, ContractError, InvalidArgument, ModelError, SettingsError
from service.rpc import messages, pages, speakers
from service.rpc.batches import Batch, Turn
from service.sealing import LocalMaster
from service.store.records import RecordError, decode_history, decode_speaker
from tests.fuzz import checkpoints, sound, vorbis

FIRST_S, LAST_S = -62_135_596_800, 253_402_300_799


@pytest.mark.parametrize("token", ["é", "gICA", "A"])
def test_a_page_token_of_any_characters_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        pages.decode_token(token)
    assert refused.value.field == "page_token"


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(0, -1), (0, 10**9), (LAST_S + 1, 0), (FIRST_S - 1, 0), (LAST_S, 999_999_999), (-(2**63), 0)],
)
def test_a_consent_at_no_time_is_refused(seconds: int, nanos: int) -> None:
    given = speaker_pb2.Consent(reference="form", time=Timestamp(seconds=seconds, nanos=nanos))
    with pytest.raises(InvalidArgument) as refused:
        messages.parse_consent(given)
    assert refused.value.field == "consent.time"


@pytest.mark.parametrize("seconds", [FIRST_S, -1, 0, 1_700_000_000, LAST_S])
def test_a_consent_at_any_time_is_told_again(seconds: int) -> None:
    consent = messages.parse_consent(
        speaker_pb2.Consent(reference="form", time=Timestamp(seconds=seconds))
    )
    assert consent.at == seconds
    Timestamp().FromNanoseconds(int(consent.at * 1e9))


def test_a_refused_mask_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidArgument, match="cannot be updated") as refused:
        speakers._parse_paths(FieldMask(paths=["x" * 100_000]))
    assert len(refused.value.status_message) < 500


OPUS = sound.encoded(sound.made(0.1, 16_000), 16_000, "OGG", "OPUS")
VORBIS = sound.encoded(sound.made(0.1, 16_000), 16_000, "OGG", "VORBIS")


@pytest.mark.parametrize("log2_entries", [4, 20])
def test_vorbis_never_reaches_its_decoder(log2_entries: int) -> None:
    """A codebook of a million entries, announced in 229 bytes, ended the server: SIGSEGV."""
    for file in (vorbis.file(log2_entries), VORBIS, OPUS + VORBIS, VORBIS + OPUS):
        with pytest.raises(AudioError, match="something else than Opus"):
            decode(file, AudioFormat(), rate=16_000, max_s=5)


@pytest.mark.parametrize("rest", [b"OggS" * 2**18, b"\0", OPUS.replace(b"OpusTags", b"OpusTagz")])
def test_an_ogg_file_of_more_than_pages_never_reaches_its_decoder(rest: bytes) -> None:
    """In 16 MB of "OggS" after a file, libogg looked for a page for minutes."""
    with pytest.raises(AudioError, match="damaged"):
        decode(OPUS + rest, AudioFormat(), rate=16_000, max_s=5)


async def _of(*speaker_ids: str) -> AsyncIterator[pb.BatchEnrollRequest]:
    for speaker_id in speaker_ids:
        yield pb.BatchEnrollRequest(
            enrollment=pb.EnrollRequest(config=pb.EnrollConfig(speaker_id=speaker_id))
        )


async def test_a_later_item_of_a_speaker_may_end_before_an_earlier_one() -> None:
    """It failed the earlier one with INTERNAL after it had been enrolled."""
    second_failed = asyncio.Event()
    calls = 0

    async def enrol(request: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        nonlocal calls
        calls += 1
        if calls == 2:
            second_failed.set()
            raise AudioError("is empty")
        await second_failed.wait()
        await asyncio.sleep(0)
        await turn()
        return pb.EnrollResponse(stored=True)

    answers = {a.index: a async for a in Batch(enrol, at_once=2).enroll_all(_of("alice", "alice"))}
    assert not answers[0].HasField("error")
    assert answers[0].result.stored
    assert answers[1].error.code == 3


async def test_an_item_waits_for_all_earlier_ones_of_its_speaker() -> None:
    """One that failed between them let the third go before the first."""
    third_waits, order = asyncio.Event(), list[int]()

    async def enrol(request: pb.BatchEnrollRequest, turn: Turn) -> pb.EnrollResponse:
        number = int(request.enrollment.config.etag)
        if number == 2:
            raise AudioError("is empty")
        if number == 1:
            await third_waits.wait()
            await asyncio.sleep(0)
        else:
            third_waits.set()
        await turn()
        order.append(number)
        return pb.EnrollResponse(stored=True)

    async def requests() -> AsyncIterator[pb.BatchEnrollRequest]:
        for number in (1, 2, 3):
            config = pb.EnrollConfig(speaker_id="alice", etag=str(number))
            yield pb.BatchEnrollRequest(enrollment=pb.EnrollRequest(config=config))
            await asyncio.sleep(0)

    assert len([a async for a in Batch(enrol, at_once=3).enroll_all(requests())]) == 3
    assert order == [1, 3]


@pytest.mark.parametrize(
    "head", [b'{"":1}', b'["x"]', b"[5]", b"[" * 5_000, b'[{"voiceprints": [["m", -9]]}]']
)
def test_a_history_of_other_json_cannot_be_read(head: bytes) -> None:
    with pytest.raises(RecordError):
        decode_history(struct.pack("<HI", 1, len(head)) + head)


@pytest.mark.parametrize("profile", [b"[" * 5_000, b'{"schema": [1]}', b"null", b"{}", b"\xff"])
def test_a_profile_of_other_json_cannot_be_read(profile: bytes) -> None:
    with pytest.raises(RecordError):
        decode_speaker("t", "alice", etag="1", profile=profile, voiceprints=[])


NESTED = "[" * 5_000 + "]" * 5_000
CALIBRATION = {"bias": 0, "weights": {}, "false_match": [], "fitted_on": ""}
KEY = {"kty": "RSA", "alg": "RS256", "n": "u" * 342, "e": "AQAB"}


@pytest.mark.parametrize(
    "part",
    [
        {"calibration": CALIBRATION | {"weights": 1}},
        {"calibration": CALIBRATION | {"bias": 10**400}},
        {"operating_point": []},
        {"window_samples": ""},
    ],
)
def test_a_contract_of_other_values_is_malformed(part: dict[str, object]) -> None:
    plain = json.loads(Contract("m", 16_000, 48_000, 24_000, 8_000, 2).to_metadata()[METADATA_KEY])
    with pytest.raises(ContractError):
        Contract.from_metadata({METADATA_KEY: json.dumps(plain | part)})


def test_a_contract_of_nothing_but_brackets_is_no_json() -> None:
    with pytest.raises(ContractError):
        Contract.from_metadata({METADATA_KEY: NESTED})


@pytest.mark.parametrize(
    "text",
    [
        NESTED,
        json.dumps({"keys": [KEY | {"alg": ["RS256"]}]}),
        json.dumps({"keys": [KEY | {"use": ["sig"]}]}),
        json.dumps({"keys": [{"kty": "oct", "alg": "HS256"}]}),
    ],
    ids=["nested", "a list of algorithms", "a list of uses", "no key"],
)
def test_a_jwks_of_other_values_is_none(tmp_path: Path, text: str) -> None:
    """While it serves, a server goes on with the keys that it had."""
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(SettingsError):
        Tokens(path, TokenRules("issuer", "audience")).load()


def test_a_line_of_nothing_but_brackets_breaks_a_trail(tmp_path: Path) -> None:
    trail = tmp_path / "audit-000001.jsonl"
    trail.write_text(NESTED + "\n")
    with pytest.raises(BrokenChain, match="is no entry"):
        verify([trail])


def test_a_master_key_of_other_letters_is_none() -> None:
    with pytest.raises(SettingsError, match="base64"):
        LocalMaster.from_text("é" * 44)


def test_a_checkpoint_with_an_escape_in_a_name_is_refused() -> None:
    seed = checkpoints.seeds()[0]
    index = checkpoints.read_index(seed).replace(b"ctorch._utils", b"c\\orch._utils")
    with pytest.raises(ModelError, match="no plain tensor"):
        checkpoints.read(checkpoints.replace_index(seed, index))
