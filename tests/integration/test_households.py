"""A claim that one of several speaks, with real voices against a real server."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import soundfile
from sayso import AsyncClient, Client, InvalidArgument, RawAudio, SequentialTest, SpeakerLocked
from sayso.v1 import audio_pb2, verification_pb2_grpc
from sayso.v1 import verification_pb2 as pb
from typer.testing import CliRunner

from service.audit import chain
from service.audit.entries import parse_line
from service.commands.application import app
from tests.support.local_server import LocalServer
from tests.support.voices import clips

HOUSEHOLD = ("awb", "rms", "slt")
FAILURES = 3
FILE = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_FILE)


class Server(LocalServer):
    def __init__(self, folder: Path) -> None:
        self.audit = folder / "audit"
        super().__init__(
            store=f"sqlite:///{folder}/sayso.db",
            audit=self.audit,
            adapt=True,
            adapt_min_speech_s=1.0,
            adapt_margin_llr=0.0,
            lock_after_failures=FAILURES,
        )

    def read_trail(self) -> list[dict[str, Any]]:
        lines = (parse_line(line.text) or {} for line in chain.lines([self.audit]))
        return [dict(facts) for facts in lines if facts["action"] == "verify"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        with running.client() as sayso:
            for speaker in HOUSEHOLD:
                for path in clips(speaker, "enroll"):
                    assert sayso.enroll(speaker, path).stored
        yield running


@pytest.fixture
def sayso(server: Server) -> Iterator[Client]:
    with server.client() as client:
        yield client


def count_failures(sayso: Client, speaker: str) -> int:
    failures = sayso.speakers.get(speaker).failed_verifications
    return failures.consecutive if failures else 0


def test_each_member_is_recognized(server: Server, sayso: Client) -> None:
    for speaker in ("rms", "slt"):
        decision = sayso.verify(HOUSEHOLD, clips(speaker, "verify-1")[0])
        assert decision.accepted
        assert decision.matched_speaker_id == speaker
        assert decision.speaker_id == HOUSEHOLD[0]
        assert [one.speaker_id for one in decision.claimed_speakers] == list(HOUSEHOLD)
        assert {one.status for one in decision.claimed_speakers} == {"COMPARED"}
    own = [entry for entry in server.read_trail() if "matched" in dict(entry["detail"])]
    assert len(own) == 2
    assert len(server.read_trail()) == 6


def test_a_claim_of_one_names_who_was_matched(sayso: Client) -> None:
    decision = sayso.verify("slt", clips("slt", "verify-1")[0])
    assert decision.matched_speaker_id == "slt"
    assert decision.claimed_speakers == ()


def test_a_stranger_is_rejected_and_counted_against_each(sayso: Client) -> None:
    decision = sayso.verify(HOUSEHOLD, clips("kal", "verify-1")[0])
    assert decision.outcome == "REJECTED"
    assert decision.matched_speaker_id == ""
    assert [count_failures(sayso, speaker) for speaker in HOUSEHOLD] == [1, 1, 1]
    assert sayso.verify(HOUSEHOLD, clips("slt", "verify-1")[0]).accepted
    assert [count_failures(sayso, speaker) for speaker in HOUSEHOLD] == [1, 1, 0]


def test_only_the_one_who_spoke_is_adapted(sayso: Client) -> None:
    before = {name: sayso.speakers.get(name).etag for name in HOUSEHOLD}
    assert sayso.verify(HOUSEHOLD, clips("rms", "verify-1")[0]).matched_speaker_id == "rms"
    changed = [name for name in HOUSEHOLD if sayso.speakers.get(name).etag != before[name]]
    assert changed == ["rms"]


def test_who_cannot_be_compared_breaks_nothing(sayso: Client) -> None:
    sayso.speakers.opt_out("awb")
    for _ in range(FAILURES):
        sayso.verify("rms", clips("kal", "verify-1")[0])
    decision = sayso.verify(["awb", "rms", "nobody", "slt"], clips("slt", "verify-1")[0])
    assert decision.matched_speaker_id == "slt"
    assert {one.speaker_id: one.status for one in decision.claimed_speakers} == {
        "awb": "OPTED_OUT",
        "rms": "LOCKED",
        "nobody": "NOT_ENROLLED",
        "slt": "COMPARED",
    }
    with pytest.raises(SpeakerLocked):
        sayso.verify("rms", clips("rms", "verify-1")[0])
    assert sayso.verify(["rms", "awb"], clips("rms", "verify-1")[0]).outcome == "OPTED_OUT"


def test_a_household_locks_as_a_speaker_does(sayso: Client) -> None:
    for _ in range(FAILURES):
        assert sayso.verify(HOUSEHOLD, clips("kal", "verify-1")[0]).outcome == "REJECTED"
    with pytest.raises(SpeakerLocked):
        sayso.verify(HOUSEHOLD, clips("slt", "verify-1")[0])


def to_mulaw(path: Path) -> bytes:
    samples, rate = soundfile.read(path, dtype="float32")
    made = io.BytesIO()
    soundfile.write(made, samples[:: rate // 8000], 8000, format="RAW", subtype="ULAW")
    return made.getvalue()


def test_a_call_is_decided_early(sayso: Client) -> None:
    audio = b"".join(map(to_mulaw, [*clips("slt", "verify"), *clips("slt", "enroll")]))
    chunks = [audio[at : at + 160] for at in range(0, len(audio), 160)]
    *_, last = sayso.verify_stream(
        HOUSEHOLD,
        chunks,
        raw=RawAudio("MULAW", 8000),
        sequential=SequentialTest(),
        stop_at_decision=True,
    )
    assert last.accepted
    assert last.matched_speaker_id == "slt"
    assert "sequential test" in last.threshold_description
    assert last.audio_s < len(audio) / 8000


async def test_the_asynchronous_client_asks_the_same(server: Server) -> None:
    async with AsyncClient(server.address) as sayso:
        decision = await sayso.verify(["rms", "slt"], clips("slt", "verify-1")[0])
        assert decision.matched_speaker_id == "slt"


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        (["slt", "slt"], "twice"),
        (["slt", "rms", "rms"], "twice"),
        (["slt", *map(str, range(8))], "more than 7"),
        (["slt", ""], "1 to 128"),
        (["", "slt"], "speaker_id"),
        ([], "speaker_id"),
    ],
)
def test_a_malformed_household_is_refused(sayso: Client, ids: list[str], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        sayso.verify(ids, clips("slt", "verify-1")[0])
    with pytest.raises(InvalidArgument, match=problem):
        list(sayso.verify_stream(ids, [], raw=RawAudio("MULAW", 8000)))


def test_watchlists_are_screened_as_for_one(server: Server, sayso: Client) -> None:
    sayso.groups.create("fraud")
    sayso.groups.add_members("fraud", ["slt"])
    decision = sayso.verify(["awb", "slt"], clips("slt", "verify-1")[0], watchlists=["fraud"])
    assert [match.speaker_id for match in decision.watchlist_matches] == ["slt"]
    request = pb.VerifyRequest(
        speaker_id="awb",
        alternative_speaker_ids=["slt"],
        audio_config=FILE,
        audio=clips("slt", "verify-1")[0].read_bytes(),
    )
    with grpc.insecure_channel(server.address) as channel:
        answer = verification_pb2_grpc.VerificationServiceStub(channel).Verify(request)
    assert answer.decision.matched_speaker_id == "slt"
    assert answer.decision.claimed_speakers[1].HasField("llr")


def test_the_command_line_asks_for_a_household(server: Server) -> None:
    arguments = ["verify", "awb", str(clips("slt", "verify-1")[0]), "--or", "slt", "--or", "rms"]
    result = CliRunner().invoke(app, [*arguments, "--server", server.address, "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["matched_speaker_id"] == "slt"
    assert [one["speaker_id"] for one in answer["claimed_speakers"]] == ["awb", "slt", "rms"]
    shown = CliRunner().invoke(app, [*arguments, "--server", server.address])
    assert "ACCEPTED slt" in " ".join(shown.stdout.split())
