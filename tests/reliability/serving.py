"""A server for these tests, what is said to it, and patience with it."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from sayso import RawAudio

from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import SaysoServer, ServerFailed
from tests.support.voices import clips

RAW = RawAudio("LINEAR16", 8000)
PATIENCE_S = 30.0


def speech() -> bytes:
    """Three seconds of somebody talking, as `RAW`."""
    samples, rate = soundfile.read(clips("slt", "verify")[1], dtype="int16")
    assert rate == RAW.sample_rate
    start = rate // 2
    return bytes(samples[start : start + 3 * rate].tobytes())


def server(store: str, **settings: object) -> SaysoServer:
    """One that starts soon, asks little of an enrolment, and uses one core."""
    chosen: dict[str, object] = {
        "model": SHIPPED_MODEL,
        "threads": 1,
        "max_batch": 1,
        "speech_threads": 1,
        "min_enroll_speech_s": 0.5,
        "log_level": "warning",
    }
    return SaysoServer(store=store, **(chosen | settings))  # type: ignore[arg-type]


def refusal(path: Path) -> str:
    """Why a server with the SQLite store at `path` does not start."""
    running = server(f"sqlite:///{path}")
    with pytest.raises(ServerFailed) as caught, running:
        pass
    assert running.process.returncode == 2
    assert "Traceback" not in str(caught.value)
    return str(caught.value).splitlines()[-1]


def wait_until(holds: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.005)
