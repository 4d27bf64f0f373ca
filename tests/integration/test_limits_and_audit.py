"""Limits, locks and the trail of a real server, as its callers and its operator meet them."""

import io
import json
import resource
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import soundfile
from sayso import Client, FailedPrecondition, NotFound, Overloaded, SpeakerLocked, Unavailable
from sayso.v1 import audio_pb2, speaker_pb2, speaker_pb2_grpc, verification_pb2_grpc
from sayso.v1 import verification_pb2 as pb

from service.audit import chain
from service.audit.subjects import Subjects
from tests.support.local_server import LocalServer
from tests.support.redis_server import RedisServer
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

FAILURES = 3


def _states(entry: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Whether an entry of the trail has these facts, of `detail` at least those that are given."""
    return all(
        fact.items() <= entry.get(name, {}).items() if name == "detail" else entry.get(name) == fact
        for name, fact in facts.items()
    )


class Office:
    """A running server with a trail, and what the trail holds."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.channel = grpc.insecure_channel(server.address)
        self.speakers = speaker_pb2_grpc.SpeakerServiceStub(self.channel)
        self.voices = verification_pb2_grpc.VerificationServiceStub(self.channel)

    def entries(self, speaker_id: str = "") -> list[dict[str, Any]]:
        """Those of a speaker, or all."""
        chain.verify([self.folder / "audit"])
        facts = [json.loads(line.text) for line in chain.lines([self.folder / "audit"])]
        wanted = self.subject(speaker_id)
        return [fact for fact in facts if not speaker_id or fact.get("subject") == wanted]

    def subject(self, speaker_id: str) -> str:
        return Subjects.read(self.folder / "audit.key").make_pseudonym("default", speaker_id)

    def wait_for(self, count: int, **facts: object) -> None:
        """Until so many entries have these facts."""
        deadline = time.monotonic() + 20.0
        while sum(_states(entry, facts) for entry in self.entries()) < count:
            assert time.monotonic() < deadline, self.entries()
            time.sleep(0.01)

    def told(self, speaker_id: str = "") -> list[tuple[str, str]]:
        return [(fact["action"], fact["outcome"]) for fact in self.entries(speaker_id)]


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def office(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Office]:
    tmp_path = tmp_path_factory.mktemp(request.param)
    settings = {"audit": tmp_path / "audit", "lock_after_failures": FAILURES}
    if request.param == "sqlite":
        with LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", **settings) as server:
            yield Office(server, tmp_path)
        return
    with RedisServer(tmp_path) as redis, LocalServer(store=redis.url, **settings) as server:
        yield Office(server, tmp_path)


@pytest.fixture
def sayso(office: Office) -> Iterator[Client]:
    with office.server.client() as client:
        yield client


@pytest.fixture
def caller(sayso: Client) -> str:
    """The id of a speaker that no other test knows, enrolled."""
    speaker_id = f"caller-{uuid.uuid4()}"
    for path in clips("slt", "enroll"):
        sayso.enroll(speaker_id, path)
    return speaker_id


def impostor() -> Path:
    return clips("rms", "verify")[0]


def test_failures_lock_and_an_administrator_unlocks(
    office: Office, sayso: Client, caller: str
) -> None:
    genuine = clips("slt", "verify")[0]
    for _ in range(FAILURES):
        assert sayso.verify(caller, impostor()).outcome == "REJECTED"
    for audio in (impostor(), genuine):
        with pytest.raises(SpeakerLocked, match="too many verifications") as refused:
            sayso.verify(caller, audio)
        assert refused.value.retry_after_s is not None
        assert 0 < refused.value.retry_after_s <= 60
    with pytest.raises(SpeakerLocked):
        list(sayso.verify_stream(caller, [genuine.read_bytes()]))
    office.speakers.UnlockSpeaker(speaker_pb2.UnlockSpeakerRequest(speaker_id=caller))
    assert sayso.verify(caller, genuine).outcome == "ACCEPTED"
    assert office.told(caller)[-10:] == [
        *[("verify", "REJECTED")] * FAILURES,
        ("lock", "DONE"),
        *[("verify", "LOCKED")] * 3,
        ("unlock", "BEGUN"),
        ("unlock", "DONE"),
        ("verify", "ACCEPTED"),
    ]


def test_of_many_guesses_at_once_few_are_answered(
    office: Office, sayso: Client, caller: str
) -> None:
    audio = impostor()

    def guess(_: int) -> str:
        try:
            return sayso.verify(caller, audio).outcome
        except SpeakerLocked:
            return "LOCKED"

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(guess, range(20)))
    assert outcomes.count("REJECTED") == FAILURES
    assert outcomes.count("LOCKED") == 20 - FAILURES


def test_a_stream_that_is_left_after_a_score_counts(
    office: Office, sayso: Client, caller: str
) -> None:
    for failures in range(1, FAILURES + 1):
        leave_after_a_score(office, caller, impostor())
        office.wait_for(failures, detail={"abandoned": 1}, subject=office.subject(caller))
    with pytest.raises(SpeakerLocked):
        sayso.verify(caller, impostor())
    office.wait_for(1, action="lock", subject=office.subject(caller))


def leave_after_a_score(office: Office, caller: str, audio: Path) -> None:
    """End a call without ending its audio."""
    left = threading.Event()

    def requests() -> Iterator[pb.StreamingVerifyRequest]:
        format_ = audio_pb2.AudioConfig(
            encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8000
        )
        config = pb.StreamingVerifyConfig(speaker_id=caller, audio_config=format_)
        yield pb.StreamingVerifyRequest(config=config)
        samples = mulaw(audio)
        for at in range(0, len(samples), 4000):
            yield pb.StreamingVerifyRequest(audio=samples[at : at + 4000])
        left.wait()

    call = office.voices.StreamingVerify(requests())
    for response in call:
        if response.decision.HasField("llr"):
            break
    call.cancel()
    left.set()


def mulaw(path: Path) -> bytes:
    made = io.BytesIO()
    samples, rate = soundfile.read(path, dtype="float32")
    soundfile.write(made, samples[:: rate // 8000], 8000, format="RAW", subtype="ULAW")
    return made.getvalue()


def test_the_trail_tells_of_every_change(office: Office, sayso: Client, caller: str) -> None:
    sayso.speakers.update(caller, metadata={"branch": "12"})
    sayso.speakers.undo(caller)
    with pytest.raises(FailedPrecondition):
        sayso.speakers.confirm(caller)
    sayso.speakers.opt_out(caller)
    sayso.speakers.opt_in(caller)
    enrolments = [("enrol", "BEGUN"), ("enrol", "STORED")] * len(clips("slt", "enroll"))
    assert office.told(caller) == [
        *enrolments,
        *[("update", "BEGUN"), ("update", "DONE")],
        *[("undo", "BEGUN"), ("undo", "DONE")],
        *[("confirm", "BEGUN"), ("confirm", "FAILED_PRECONDITION")],
        *[("opt_out", "BEGUN"), ("opt_out", "DONE")],
        *[("opt_in", "BEGUN"), ("opt_in", "DONE")],
    ]
    text = "".join(path.read_text() for path in (office.folder / "audit").glob("*.jsonl"))
    assert caller not in text
    assert "branch" not in text


def test_a_voice_that_a_call_improves(tmp_path: Path) -> None:
    """The acceptance is entered first, then that the voice is changed and what came of it."""
    lenient = {"adapt": True, "adapt_margin_llr": 0.0, "adapt_min_speech_s": 0.5}
    settings = {"audit": tmp_path / "audit", "min_enroll_speech_s": 2.0, **lenient}
    with (
        LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", **settings) as server,
        server.client() as sayso,
    ):
        office = Office(server, tmp_path)
        assert sayso.enroll("slt", clips("slt", "enroll")[0]).stored
        model_id = sayso.verify("slt", clips("slt", "verify")[0]).model_id
        assert sayso.verify("slt", impostor()).outcome == "REJECTED"
        accepted, *improved, rejected = office.entries("slt")[2:]
    assert (accepted["action"], accepted["outcome"]) == ("verify", "ACCEPTED")
    assert [(fact["action"], fact["outcome"]) for fact in improved] == [
        ("adapt", "BEGUN"),
        ("adapt", "STORED"),
    ]
    assert improved[1]["model_id"] == model_id
    assert improved[1]["detail"] == {"begun": improved[0]["seq"]}
    assert improved[1]["request_id"] == accepted["request_id"]
    assert (rejected["action"], rejected["outcome"]) == ("verify", "REJECTED")


def test_a_deletion_is_proved_by_its_receipt(office: Office, sayso: Client, caller: str) -> None:
    request = speaker_pb2.DeleteSpeakerRequest(speaker_id=caller)
    receipt = office.speakers.DeleteSpeaker(request).receipt
    found = chain.verify([office.folder / "audit"], known=[receipt.audit_digest])
    assert found.head.digest == receipt.audit_digest
    last = office.entries(caller)[-1]
    assert (last["action"], last["outcome"], last["subject"]) == ("delete", "DONE", receipt.subject)
    with pytest.raises(NotFound):
        sayso.speakers.delete(caller)
    assert office.told(caller)[-1] == ("delete", "NOT_FOUND")


def test_an_export_holds_everything(office: Office, sayso: Client, caller: str) -> None:
    sayso.groups.create("vip", "")
    sayso.groups.add_members("vip", [caller])
    held = office.speakers.ExportSpeaker(speaker_pb2.ExportSpeakerRequest(speaker_id=caller))
    assert list(held.group_names) == ["vip"]
    assert held.speaker.speaker_id == caller
    (voiceprint,) = held.voiceprints
    assert len(voiceprint.vectors) == len(clips("slt", "enroll"))
    assert sum(value**2 for value in voiceprint.vectors[0].values) == pytest.approx(1.0, abs=1e-3)
    assert len(held.history) == held.speaker.undo_levels
    assert office.told(caller)[-2:] == [("export", "BEGUN"), ("export", "DONE")]


def test_identification_names_whom_it_accepts(office: Office, sayso: Client, caller: str) -> None:
    sayso.groups.create("clients", "")
    sayso.groups.add_members("clients", [caller])
    found = sayso.identify("clients", clips("slt", "verify")[0])
    last = office.entries()[-1]
    assert (last["action"], last["outcome"]) == ("identify", found.decision.outcome)
    decision_id = found.decision.decision_id
    assert last["detail"] == {"decision": decision_id, "group": "clients"}
    assert ("subject" in last) == (found.decision.outcome == "ACCEPTED")


def test_a_trail_that_cannot_be_written_stops_decisions_and_changes(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path) as redis,
        SaysoServer(store=redis.url, audit=tmp_path / "audit") as server,
        server.client() as sayso,
    ):
        for path in clips("slt", "enroll"):
            sayso.enroll("slt", path)
        pid, full = server.process.pid, (tmp_path / "audit" / "audit-000001.jsonl").stat().st_size
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full + 10, unlimited[1]))
        calls = (
            lambda: sayso.verify("slt", clips("slt", "verify")[0]),
            lambda: sayso.enroll("slt", clips("slt", "verify")[0]),
            lambda: sayso.speakers.delete("slt"),
        )
        for call in calls:
            with pytest.raises(Unavailable, match="audit trail"):
                call()
        before = sayso.speakers.get("slt")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        assert sayso.verify("slt", clips("slt", "verify")[0]).accepted
        assert before.undo_levels == len(clips("slt", "enroll"))
        facts = [json.loads(line.text) for line in chain.lines([tmp_path / "audit"])]
        assert [(fact["action"], fact["outcome"]) for fact in facts[-2:]] == [
            ("lost", "NOT_WRITTEN"),
            ("verify", "ACCEPTED"),
        ]
        assert facts[-2]["detail"] == {"entries": 3}
        chain.verify([tmp_path / "audit"])


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({"tenant_requests_per_s": 0.001, "tenant_burst_s": 2000}, 3),
        ({"tenant_audio_s_per_s": 0.01, "tenant_burst_s": 1}, 2),
    ],
)
def test_what_a_tenant_may_use(tmp_path: Path, settings: dict[str, float], calls: int) -> None:
    audio = clips("slt", "verify")[0]
    with (
        LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", **settings) as server,
        server.client() as sayso,
    ):
        with pytest.raises(Overloaded, match="slow down") as refused:
            for _ in range(calls):
                sayso.embed(audio)
        assert refused.value.retry_after_s > 0


def test_no_more_speakers_than_a_tenant_may_have(tmp_path: Path) -> None:
    with (
        LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", tenant_speakers=1) as server,
        server.client() as sayso,
    ):
        for path in clips("slt", "enroll"):
            sayso.enroll("slt", path)
        with pytest.raises(Overloaded, match="has its 1 speakers"):
            sayso.enroll("rms", clips("rms", "enroll")[0])
        with pytest.raises(Overloaded):
            sayso.speakers.opt_out("awb")
        sayso.speakers.delete("slt")
        sayso.enroll("rms", clips("rms", "enroll")[0])
