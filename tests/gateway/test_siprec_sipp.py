"""SIPREC against SIPp: another implementation of SIP, RTP at its real pace."""

import asyncio
import logging
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.call_audio import read_alaw
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.sipp import needs_sipp, run_sipp, tunnel, wait_for_answer, write_scenario
from tests.support.voices import clips

pytestmark = needs_sipp


@pytest.fixture
def audio(tmp_path: Path, caller: bytes) -> dict[int, Path]:
    """The caller in both codecs, by payload type."""
    files = {0: tmp_path / "ulaw.raw", 8: tmp_path / "alaw.raw"}
    files[0].write_bytes(caller)
    files[8].write_bytes(read_alaw(*clips("slt", "verify"), *clips("slt", "enroll")))
    return files


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


def announce(server: SaysoServer, *calls: str) -> None:
    with server.client() as sayso:
        for call in calls:
            sayso.announce_call(call, "slt")


async def test_calls_over_every_transport(
    server: SaysoServer, audio: dict[int, Path], tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    """Side by side: each codec over UDP, TCP, TLS, and ten calls at once."""
    authority = Authority(tmp_path)
    pair = authority.issue("localhost", [x509.DNSName("localhost")])
    trust = ssl.create_default_context(cafile=authority.certificate)
    names = ("pcmu", "pcma", "tcp", "tls", "many")
    many = [f"many-{number}" for number in range(1, 11)]
    announce(server, *many, *(f"{name}-1" for name in names[:-1]))
    scenarios = {
        name: write_scenario(
            tmp_path / f"{name}.xml", audio[8 if name == "pcma" else 0], name,
            codec=8 if name == "pcma" else 0,
        )
        for name in names
    }  # fmt: skip
    async with run_gateway(
        server,
        siprec_listen="127.0.0.1:0",
        siprec_tls_listen="127.0.0.1:0",
        tls_certificate=pair.certificate,
        tls_key=pair.key,
    ) as gateway:
        plain = gateway.siprec or ""
        async with tunnel(gateway.siprec_tls or "", trust) as tls:
            await asyncio.gather(
                run_sipp(scenarios["pcmu"], plain),
                run_sipp(scenarios["pcma"], plain),
                run_sipp(scenarios["tcp"], plain, transport="t1"),
                run_sipp(scenarios["tls"], tls, transport="t1"),
                run_sipp(scenarios["many"], plain, transport="tn", calls=10),
            )
    expected = {*many, *(f"{name}-1" for name in names[:-1])}
    assert read_outcomes(logged) == dict.fromkeys(expected, "ACCEPTED")


async def test_a_call_is_held_and_resumed(
    server: SaysoServer, audio: dict[int, Path], tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    announce(server, "held-1")
    scenario = write_scenario(tmp_path / "held.xml", audio[0], "held", hold_s=1.5)
    async with run_gateway(server, siprec_listen="127.0.0.1:0", max_pause_s=1.0) as gateway:
        await run_sipp(scenario, gateway.siprec or "")
    assert read_outcomes(logged) == {"held-1": "ACCEPTED"}


async def test_a_session_ends_before_the_gateway_does(
    server: SaysoServer, audio: dict[int, Path], tmp_path: Path
) -> None:
    """SIGTERM within a call: it goes on to its BYE, and later ones are told to go elsewhere."""
    announce(server, "drained-1", "late-1")
    scenario = write_scenario(tmp_path / "drained.xml", audio[0], "drained")
    late = write_scenario(tmp_path / "late.xml", audio[0], "late")
    with GatewayProcess(server.address, siprec_listen="127.0.0.1:0", drain_s=20) as gateway:
        async with asyncio.TaskGroup() as calls:
            calls.create_task(run_sipp(scenario, gateway.siprec))
            await wait_for_answer(scenario)
            gateway.process.terminate()
            await asyncio.sleep(0.5)
            with pytest.raises(AssertionError, match="503"):
                await run_sipp(late, gateway.siprec)
        log = await asyncio.to_thread(gateway.terminate)
    assert "draining 1 calls" in log
    assert "call drained-1: ACCEPTED" in log
