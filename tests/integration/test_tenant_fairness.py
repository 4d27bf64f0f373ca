"""One tenant's many calls and long requests make only its own wait."""

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sayso import Client, NotFound, Overloaded, RawAudio, SaysoError

from service.access.grants import Grants
from service.access.keys import make_key
from service.access.roles import Role
from tests.support.raw_http2 import RawConnection
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

RAW = RawAudio("LINEAR16", 8000)
LONG, LONG_S, SHORT_S = 24, 60, 3
PATIENCE_S = 60.0
PLACES = 20
WITHOUT_BODY = 128


def speech(seconds: int) -> bytes:
    samples, rate = soundfile.read(clips("slt", "verify")[1], dtype="int16")
    return bytes(np.resize(samples, seconds * rate).tobytes())


def keys(path: Path, *tenants: str) -> list[str]:
    grants, made = Grants(), []
    for tenant in tenants:
        key, entry = make_key(tenant, list(Role), now=datetime.now(UTC), expires=None)
        grants = grants.replace(entry)
        made.append(key)
    path.touch(mode=0o600)
    path.write_text(grants.model_dump_json(), encoding="utf-8")
    path.chmod(0o600)
    return made


def total(server: SaysoServer, metric: str) -> float:
    values = re.findall(rf"^{metric}{{.*}} (\S+)$", server.read_metrics(), re.MULTILINE)
    return sum(map(float, values))


def test_a_short_request_is_served_before_the_long_ones_of_another_tenant(tmp_path: Path) -> None:
    busy_key, calm_key = keys(tmp_path / "keys.json", "busy", "calm")
    server = SaysoServer(
        store=f"sqlite:///{tmp_path / 'sayso.db'}",
        keys=tmp_path / "keys.json",
        metrics_listen="127.0.0.1:0",
        threads=1,
        speech_threads=1,
    )
    with (
        server,
        Client(server.address, credential=busy_key, timeout_s=300) as busy,
        Client(server.address, credential=calm_key, timeout_s=300) as calm,
        ThreadPoolExecutor(LONG) as callers,
    ):
        assert calm.embed(speech(SHORT_S), raw=RAW)
        working = [callers.submit(busy.embed, speech(LONG_S), raw=RAW) for _ in range(LONG)]
        deadline = time.monotonic() + PATIENCE_S
        while total(server, "sayso_open_calls") < LONG:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = total(server, "sayso_batch_windows_sum")
        assert calm.embed(speech(SHORT_S), raw=RAW)
        between = total(server, "sayso_batch_windows_sum") - before
        assert all(call.result() for call in working)
        assert between < (total(server, "sayso_batch_windows_sum") - before) / 10


def test_calls_that_take_all_places_leave_some_to_other_tenants_and_to_probes(
    tmp_path: Path,
) -> None:
    busy_key, calm_key = keys(tmp_path / "keys.json", "busy", "calm")
    server = SaysoServer(
        store=f"sqlite:///{tmp_path / 'sayso.db'}",
        keys=tmp_path / "keys.json",
        metrics_listen="127.0.0.1:0",
        max_streams=PLACES,
    )
    over = threading.Event()

    def silence() -> Iterator[bytes]:
        over.wait(PATIENCE_S)
        yield from ()

    def hold(number: int) -> None:
        with suppress(SaysoError):
            list(busy.enroll_stream(f"caller-{number}", silence(), raw=RAW))

    with (
        server,
        Client(server.address, credential=busy_key) as busy,
        Client(server.address, credential=calm_key) as calm,
        ThreadPoolExecutor(PLACES) as callers,
    ):
        unreserved = PLACES * 4 // 5
        held = [callers.submit(hold, number) for number in range(unreserved)]
        deadline = time.monotonic() + PATIENCE_S
        while total(server, "sayso_open_calls") < unreserved:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(Overloaded, match="kept for other tenants") as refused:
            busy.speakers.get("nobody")
        assert (refused.value.retry_after_s or 0) > 0
        with pytest.raises(NotFound):
            calm.speakers.get("nobody")
        assert busy.ready()
        assert total(server, "sayso_refused_calls_total") == 1
        over.set()
        for call in held:
            call.result()
        with pytest.raises(NotFound):
            busy.speakers.get("nobody")


def test_requests_that_never_come_keep_no_other_tenant_waiting(tmp_path: Path) -> None:
    """Twice as many as may be in memory send their headers and no body."""
    busy_key, calm_key = keys(tmp_path / "keys.json", "busy", "calm")
    server = SaysoServer(
        store=f"sqlite:///{tmp_path / 'sayso.db'}",
        keys=tmp_path / "keys.json",
        metrics_listen="127.0.0.1:0",
    )
    with (
        server,
        RawConnection(server.address) as slow,
        Client(server.address, credential=calm_key) as calm,
    ):
        for _ in range(WITHOUT_BODY):
            slow.call("/sayso.v1.VerificationService/Verify", x_api_key=busy_key)
        deadline = time.monotonic() + PATIENCE_S
        while total(server, "sayso_open_calls") < WITHOUT_BODY:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert calm.embed(speech(SHORT_S), raw=RAW)
        assert calm.verify("nobody", speech(SHORT_S), raw=RAW).outcome == "NOT_ENROLLED"
