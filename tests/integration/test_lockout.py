"""Guesses at one speaker are few, whatever way they are made and however the call ends."""

import io
import json
import queue
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sayso import Client, FailedVerifications, RawAudio, SpeakerLocked
from sayso.blocking import transport
from sayso.v1 import audio_pb2, decision_pb2, verification_pb2_grpc
from sayso.v1 import verification_pb2 as pb
from typer.testing import CliRunner

from service.audit import chain
from service.commands.application import app
from tests.support.local_server import LocalServer
from tests.support.redis_server import RedisServer
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

LIMIT = 5
DISABLE = 12
MULAW = RawAudio("MULAW", 8000)
FRAME_BYTES = 160
ANYTHING = decision_pb2.DecisionPolicy(
    costs=decision_pb2.CostModel(target_prior=0.999, miss_cost=1.0, false_accept_cost=1e-20)
)
NOTHING = decision_pb2.DecisionPolicy(
    costs=decision_pb2.CostModel(target_prior=0.001, miss_cost=1e-20, false_accept_cost=1.0)
)


class Trailed(LocalServer):
    """One with an audit trail."""

    def __init__(self, folder: Path, *, store: str = "", **settings: object) -> None:
        self.audit = folder / "audit"
        address = store or f"sqlite:///{folder}/sayso.db"
        super().__init__(store=address, audit=self.audit, **settings)


class TrailedProcess(SaysoServer):
    """One with an audit trail, in a process of its own, that has a log and metrics."""

    def __init__(self, folder: Path, *, store: str = "", **settings: object) -> None:
        self.audit = folder / "audit"
        address = store or f"sqlite:///{folder}/sayso.db"
        super().__init__(store=address, audit=self.audit, **settings)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def impatient(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trailed]:
    """One that locks for a moment only."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = {"lock_s": 1e-3, "lock_longest_s": 1e-3, "lock_disable_after": DISABLE}
    with ExitStack() as stack:
        store = ""
        if request.param == "redis":
            store = stack.enter_context(RedisServer(folder)).url
        yield stack.enter_context(Trailed(folder, store=store, **settings))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trailed]:
    """One with the defaults."""
    with Trailed(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def sayso(server: Trailed) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def caller(sayso: Client) -> str:
    return enrolled(sayso)


def audio(speaker: str, *, gain: float = 1.0) -> bytes:
    """Recordings one after another, as a telephone line carries them."""
    made = io.BytesIO()
    for path in clips(speaker, "verify"):
        samples, rate = soundfile.read(path, dtype="float32")
        samples = np.clip(samples * gain, -1.0, 1.0)
        soundfile.write(made, samples[:: rate // 8000], 8000, format="RAW", subtype="ULAW")
    return made.getvalue()


GENUINE, IMPOSTOR, CLIPPED = audio("slt"), audio("rms"), audio("rms", gain=100.0)


def frames(heard: bytes, size: int = FRAME_BYTES) -> Iterator[bytes]:
    return (heard[at : at + size] for at in range(0, len(heard), size))


def enrolled(sayso: Client) -> str:
    speaker_id = f"caller-{uuid.uuid4()}"
    for path in clips("slt", "enroll"):
        assert sayso.enroll(speaker_id, path).stored
    return speaker_id


def failed(sayso: Client, speaker_id: str) -> FailedVerifications:
    found = sayso.speakers.get(speaker_id).failed_verifications
    assert found is not None
    return found


class Line:
    """A call as a program of its own makes it, to be ended as the test likes."""

    def __init__(
        self,
        server: Trailed | TrailedProcess,
        speaker_id: str,
        policy: decision_pb2.DecisionPolicy | None = None,
    ) -> None:
        self._said = queue.SimpleQueue[bytes | None]()
        self._channel = grpc.insecure_channel(server.address)
        stub = verification_pb2_grpc.VerificationServiceStub(self._channel)
        config = pb.StreamingVerifyConfig(
            speaker_id=speaker_id,
            policy=policy,
            audio_config=audio_pb2.AudioConfig(
                encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=MULAW.sample_rate
            ),
        )
        self.call = stub.StreamingVerify(self._requests(config))

    def _requests(self, config: pb.StreamingVerifyConfig) -> Iterator[pb.StreamingVerifyRequest]:
        yield pb.StreamingVerifyRequest(config=config)
        while (heard := self._said.get()) is not None:
            for chunk in frames(heard, 4000):
                yield pb.StreamingVerifyRequest(audio=chunk)

    def say(self, heard: bytes) -> None:
        self._said.put(heard)

    def told(self) -> pb.StreamingVerifyResponse:
        """The next response that holds a score, or the last one."""
        while not (response := next(self.call)).done:
            if response.decision.HasField("llr"):
                break
        return response

    def hang_up(self) -> None:
        self.call.cancel()
        self.end()

    def end(self) -> None:
        self._said.put(None)

    def conclude(self) -> pb.StreamingVerifyResponse:
        self.end()
        *_, last = self.call
        return last


def entries(server: Trailed | TrailedProcess) -> list[dict[str, Any]]:
    return [json.loads(line.text) for line in chain.lines([server.audit])]


def await_count(sayso: Client, speaker_id: str, consecutive: int) -> None:
    """Until the server has noticed that a caller left."""
    deadline = time.monotonic() + 20.0
    while failed(sayso, speaker_id).consecutive != consecutive:
        assert time.monotonic() < deadline, failed(sayso, speaker_id)
        time.sleep(0.01)


def await_entry(server: Trailed | TrailedProcess, request_detail: str, count: int) -> None:
    """Until the trail tells so many times how a call ended."""
    deadline = time.monotonic() + 20.0
    while sum(request_detail in entry.get("detail", {}) for entry in entries(server)) < count:
        assert time.monotonic() < deadline, entries(server)
        time.sleep(0.01)


def stub(server: Trailed | TrailedProcess) -> Any:
    return verification_pb2_grpc.VerificationServiceStub(grpc.insecure_channel(server.address))


def verify(
    server: Trailed | TrailedProcess,
    speaker_id: str,
    heard: bytes,
    policy: decision_pb2.DecisionPolicy,
) -> pb.VerifyResponse:
    config = audio_pb2.AudioConfig(
        encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=MULAW.sample_rate
    )
    request = pb.VerifyRequest(
        speaker_id=speaker_id, audio_config=config, audio=heard, policy=policy
    )
    response: pb.VerifyResponse = stub(server).Verify(request)
    return response


def until_withheld(server: TrailedProcess) -> None:
    """Until an answer was kept back."""
    deadline = time.monotonic() + 20.0
    while "an answer is kept back" not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.01)


def lock(sayso: Client, speaker_id: str) -> None:
    for _ in range(LIMIT):
        assert sayso.verify(speaker_id, IMPOSTOR, raw=MULAW).outcome == "REJECTED"


def test_costs_between_guesses_do_not_clear_the_count(
    server: Trailed, sayso: Client, caller: str
) -> None:
    for _ in range(LIMIT - 1):
        assert sayso.verify(caller, IMPOSTOR, raw=MULAW).outcome == "REJECTED"
    lax = verify(server, caller, IMPOSTOR, ANYTHING)
    assert lax.decision.outcome == decision_pb2.OUTCOME_ACCEPTED
    with pytest.raises(SpeakerLocked):
        sayso.verify(caller, GENUINE, raw=MULAW)
    assert failed(sayso, caller).consecutive == LIMIT


def test_a_strict_request_neither_counts_nor_keeps_from_clearing(
    server: Trailed, sayso: Client, caller: str
) -> None:
    sayso.verify(caller, IMPOSTOR, raw=MULAW)
    strict = verify(server, caller, GENUINE, NOTHING)
    assert strict.decision.outcome == decision_pb2.OUTCOME_REJECTED
    count = failed(sayso, caller)
    assert (count.consecutive, count.total, count.locked_until) == (0, 1, None)
    assert not count.disabled


def test_a_stream_that_ends_inconclusive_after_a_score_counts(
    server: Trailed, sayso: Client, caller: str
) -> None:
    for _ in range(LIMIT):
        line = Line(server, caller)
        line.say(IMPOSTOR)
        assert line.told().decision.llr < 0
        line.say(CLIPPED)
        last = line.conclude().decision
        assert last.outcome == decision_pb2.OUTCOME_INCONCLUSIVE
        assert not last.HasField("llr")
    assert failed(sayso, caller).consecutive == LIMIT


def test_a_stream_from_before_the_lock_is_told_nothing_more(
    server: Trailed, sayso: Client, caller: str
) -> None:
    lines = [Line(server, caller) for _ in range(3)]
    for line in lines:
        line.say(IMPOSTOR[:16_000])
        assert line.told().decision.HasField("llr")
    lock(sayso, caller)
    for line, heard in zip(lines, (IMPOSTOR, GENUINE, GENUINE), strict=True):
        line.say(heard)
        with pytest.raises(grpc.RpcError) as refused:
            for _ in line.call:
                pass
        reason, retry_s = locked_details(refused.value)
        assert reason == "SPEAKER_LOCKED"
        assert retry_s is not None
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failed(sayso, caller).consecutive == LIMIT


def locked_details(error: Any) -> tuple[str, float | None]:
    """The reason of an error, and after how many seconds to try again."""
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
    assert info.domain == "sayso"
    return info.reason, retry and retry.retry_delay.ToTimedelta().total_seconds()


def test_who_is_locked_is_not_identified(server: Trailed, sayso: Client, caller: str) -> None:
    sayso.groups.create(caller)
    sayso.groups.add_members(caller, [caller])

    def found() -> list[str]:
        once = sayso.identify(caller, GENUINE, raw=MULAW, target_false_match_rate=0.1)
        *_, last = sayso.verify_stream("", frames(GENUINE), raw=MULAW, identify_group=caller)
        assert last.identification is not None
        names = [at.speaker_id for at in (*once.candidates, *last.identification.candidates)]
        return [*names, *filter(None, [last.identification.speaker_id])]

    assert caller in found()
    lock(sayso, caller)
    assert found() == []
    sayso.speakers.unlock(caller)
    assert caller in found()


def test_a_lock_hides_nobody_from_a_watchlist(sayso: Client, caller: str) -> None:
    sayso.groups.create(caller)
    sayso.groups.add_members(caller, [caller])
    lock(sayso, caller)
    heard = sayso.verify("nobody", GENUINE, raw=MULAW, watchlists=[caller])
    assert [match.speaker_id for match in heard.watchlist_matches] == [caller]


def test_a_genuine_caller_may_leave_as_often_as_he_likes(
    server: Trailed, sayso: Client, caller: str
) -> None:
    """By way of a client that cancels, and by way of ours, which concludes the call."""
    for _ in range(LIMIT + 1):
        line = Line(server, caller)
        line.say(GENUINE)
        while line.told().decision.outcome != decision_pb2.OUTCOME_ACCEPTED:
            pass
        line.hang_up()
    await_entry(server, "abandoned", LIMIT + 1)
    assert failed(sayso, caller) == FailedVerifications(0, 0, None, False)


def test_the_client_concludes_a_stream_that_is_left(
    server: Trailed, sayso: Client, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "LEAVING_S", 30.0)  # a busy machine may need it
    left = len([each for each in entries(server) if "abandoned" in each.get("detail", {})])
    for _ in range(LIMIT + 1):
        for decision in sayso.verify_stream(caller, frames(GENUINE), raw=MULAW):
            if decision.llr is not None:
                break
    assert sayso.verify(caller, GENUINE, raw=MULAW).accepted
    assert left == len([each for each in entries(server) if "abandoned" in each.get("detail", {})])
    for _ in sayso.verify_stream(caller, frames(IMPOSTOR), raw=MULAW):
        break
    assert failed(sayso, caller).consecutive == 1


@pytest.mark.parametrize(("heard", "failures"), [(IMPOSTOR, 1), (GENUINE, 0)])
def test_a_pause_that_ends_a_call_is_a_way_to_leave(
    tmp_path: Path, heard: bytes, failures: int
) -> None:
    with Trailed(tmp_path, max_pause_s=0.5) as server, server.client() as sayso:
        caller = enrolled(sayso)
        line = Line(server, caller)
        line.say(heard)
        with pytest.raises(grpc.RpcError) as ended:
            for _ in line.call:
                pass
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert failed(sayso, caller).consecutive == failures


def test_a_call_that_a_drain_cuts_off_never_counts(tmp_path: Path) -> None:
    with Trailed(tmp_path, drain_s=0.1) as server, server.client() as sayso:
        caller = enrolled(sayso)
        line = Line(server, caller)
        line.say(IMPOSTOR)
        assert line.told().decision.llr < 0
        server.terminate()
        with pytest.raises(grpc.RpcError):
            line.conclude()
    with Trailed(tmp_path) as server, server.client() as sayso:
        assert failed(sayso, caller).total == 0
        assert any("interrupted" in entry.get("detail", {}) for entry in entries(server))


def test_so_many_in_all_disable_whatever_is_accepted_between(impatient: Trailed) -> None:
    with impatient.client() as sayso:
        caller = enrolled(sayso)
        for number in range(DISABLE):
            if number % (LIMIT - 1) == 0:
                assert sayso.verify(caller, GENUINE, raw=MULAW).accepted
            assert sayso.verify(caller, IMPOSTOR, raw=MULAW).outcome == "REJECTED"
        with pytest.raises(SpeakerLocked, match="disabled until an administrator") as refused:
            sayso.verify(caller, GENUINE, raw=MULAW)
        assert refused.value.retry_after_s is None
        assert "disabled" in show(impatient, caller)
        sayso.speakers.unlock(caller)
        assert sayso.verify(caller, GENUINE, raw=MULAW).accepted
        assert failed(sayso, caller) == FailedVerifications(0, 0, None, False)


def show(server: Trailed | TrailedProcess, speaker_id: str) -> str:
    shown = CliRunner().invoke(app, ["speakers", "show", speaker_id, "--server", server.address])
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def test_a_lock_is_seen(tmp_path: Path) -> None:
    running = TrailedProcess(tmp_path, metrics_listen="127.0.0.1:0")
    with running as server, server.client() as sayso:
        caller = enrolled(sayso)
        lock(sayso, caller)
        with pytest.raises(SpeakerLocked):
            sayso.verify(caller, GENUINE, raw=MULAW)
        assert f"{LIMIT} in a row, {LIMIT} since the last unlock" in show(server, caller)
        assert "until 20" in show(server, caller)
        text = server.read_metrics()
        assert 'sayso_speaker_locks_total{event="locked"} 1.0' in text
        assert 'sayso_speaker_locks_total{event="refused"} 1.0' in text
        assert f"locked for 60 s after {LIMIT} failed verifications in a row" in server.log
        assert caller not in server.log
        locks = [entry for entry in entries(server) if entry["action"] == "lock"]
        assert [each["detail"]["in_a_row"] for each in locks] == [LIMIT]


def test_a_call_outlives_a_store_that_is_away_and_is_told_nothing_meanwhile(
    tmp_path: Path,
) -> None:
    with (
        RedisServer(tmp_path) as redis,
        TrailedProcess(tmp_path, store=redis.url, log_level="debug") as server,
        server.client() as sayso,
    ):
        caller = enrolled(sayso)
        line = Line(server, caller)
        line.say(GENUINE[:16_000])
        assert line.told().decision.HasField("llr")
        redis.pause()
        line.say(GENUINE[16_000:32_000])
        until_withheld(server)
        redis.resume()
        assert line.conclude().decision.outcome == decision_pb2.OUTCOME_ACCEPTED
        assert failed(sayso, caller).total == 0


def test_leaving_ends_also_where_no_chunk_comes_any_more(
    server: Trailed, sayso: Client, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender waits for a chunk and cannot half-close: the call is cancelled, as ever."""
    monkeypatch.setattr(transport, "LEAVING_S", 0.1)
    never = queue.SimpleQueue[bytes]()

    def chunks() -> Iterator[bytes]:
        yield from frames(GENUINE)
        yield never.get()

    for decision in sayso.verify_stream(caller, chunks(), raw=MULAW):
        if decision.accepted:
            break
    never.put(b"")
    assert sayso.verify(caller, GENUINE, raw=MULAW).accepted


def test_many_streams_at_once_are_told_little_more_than_one_after_another(
    server: Trailed, sayso: Client, caller: str
) -> None:
    lines = [Line(server, caller) for _ in range(4 * LIMIT)]
    for line in lines:
        line.say(IMPOSTOR)
    scored, refused = 0, 0
    for line in lines:
        line.end()
        responses = []
        try:
            for response in line.call:
                responses.append(response)
        except grpc.RpcError as error:
            refused += locked_details(error)[0] == "SPEAKER_LOCKED"
        scored += any(response.decision.HasField("llr") for response in responses)
    assert refused == len(lines) - LIMIT
    assert scored <= 2 * LIMIT
    assert failed(sayso, caller).total == LIMIT
