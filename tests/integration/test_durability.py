"""What was acknowledged survives SIGKILL; a store that is away is said to be, and comes back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile
from sayso import Client, RawAudio, SaysoError, Unavailable

from tests.support.local_server import LocalServer
from tests.support.redis_server import RedisServer
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

_PATIENCE_S = 20.0


def _await_ready(sayso: Client, *, ready: bool) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while sayso.ready() is not ready:
        assert time.monotonic() < deadline, f"never became {'ready' if ready else 'unready'}"
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_killed_server_loses_no_acknowledged_voice(kind: str, tmp_path: Path) -> None:
    if kind == "sqlite":
        _enrol_kill_verify(f"sqlite:///{tmp_path / 'sayso.db'}")
        return
    with RedisServer(tmp_path) as redis:
        _enrol_kill_verify(redis.url)


def _enrol_kill_verify(store: str) -> None:
    with SaysoServer(store=store) as server:
        with server.client() as sayso:
            before = sayso.enroll("slt", clips("slt", "enroll")[0]).speaker
        server.kill()
        server.start()
        with server.client() as sayso:
            assert sayso.speakers.get("slt") == before
            assert sayso.verify("slt", clips("slt", "verify")[0]).llr is not None


def test_enrolments_at_once_all_count(tmp_path: Path) -> None:
    samples, rate = soundfile.read(clips("slt", "verify")[0], dtype="int16")
    raw = RawAudio("LINEAR16", rate)
    parts = [samples[number * rate // 10 :].tobytes() for number in range(16)]
    with (
        LocalServer(store=f"sqlite:///{tmp_path / 'sayso.db'}") as server,
        server.client() as sayso,
        ThreadPoolExecutor(8) as pool,
    ):
        each_s = [
            sayso.enroll(f"one-{number}", part, raw=raw).net_speech_s
            for number, part in enumerate(parts)
        ]
        list(pool.map(lambda part: sayso.enroll("many", part, raw=raw), parts))
        assert sayso.speakers.get("many").net_speech_s == pytest.approx(sum(each_s), rel=1e-4)


def test_a_server_outlives_its_redis(tmp_path: Path) -> None:
    path = clips("slt", "verify")[0]
    with (
        RedisServer(tmp_path) as redis,
        SaysoServer(store=redis.url) as server,
        server.client() as sayso,
    ):
        _await_ready(sayso, ready=True)
        sayso.enroll("slt", clips("slt", "enroll")[0])
        redis.kill()
        _await_ready(sayso, ready=False)
        with pytest.raises(Unavailable, match="store"):
            sayso.verify("slt", path)
        redis.start()
        _await_ready(sayso, ready=True)
        assert sayso.verify("slt", path).llr is not None


def test_a_server_starts_before_its_redis(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    with SaysoServer(store=redis.url) as server, server.client() as sayso:
        assert not sayso.ready()
        with pytest.raises(Unavailable):
            sayso.verify("slt", clips("slt", "verify")[0])
        with redis:
            _await_ready(sayso, ready=True)
            assert sayso.enroll("slt", clips("slt", "enroll")[0]).stored


def test_calls_in_flight_finish_when_the_server_stops(tmp_path: Path) -> None:
    path = clips("slt", "enroll")[0]
    with SaysoServer(store=f"sqlite:///{tmp_path / 'sayso.db'}") as server:
        outcomes: list[object] = []

        def call() -> None:
            with server.client() as sayso:
                try:
                    outcomes.append(sayso.enroll("slt", path).stored)
                except SaysoError as error:
                    outcomes.append(error)

        with server.client() as sayso:
            assert sayso.embed(path)
        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        _await_log(server, "/sayso.v1.VerificationService/Enroll", count=1)
        server.terminate()
        for caller in callers:
            caller.join()
    done = outcomes.count(True)
    assert done >= 1
    refused = [outcome for outcome in outcomes if outcome is not True]
    assert all(isinstance(outcome, Unavailable) for outcome in refused), refused


def _await_log(server: SaysoServer, text: str, *, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while server.log.count(text) < count:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.005)
