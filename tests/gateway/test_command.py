"""`sayso gateway` as a process: what it needs, what it refuses, how it stops."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from cryptography import x509
from websockets.asyncio.client import connect

from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess
from tests.support.sayso_server import ROOT, SaysoServer
from tests.support.twilio_calls import PUBLIC_URL, make_call, make_start, send_call, sign

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({modules!r}))
from service.commands.application import app
app(["gateway"])
"""


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SAYSO_")
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("module", ["aiohttp", "starlette", "uvicorn", "uvloop"])
def test_without_the_extra_one_line_says_what_to_install(module: str) -> None:
    ended = run("-c", WITHOUT.format(modules=[module]))
    assert ended.returncode == 2
    assert ended.stderr == f"error: {module} is not installed: pip install 'sayso[gateway]'\n"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "no platform is switched on"),
        ({"SAYSO_GATEWAY_TWILO_AUTH_TOKENS": "x"}, "did you mean SAYSO_GATEWAY_TWILIO_AUTH_TOKENS"),
        ({"SAYSO_GATEWAY_POLICY": ""}, "SAYSO_GATEWAY_POLICY is empty"),
        ({"SAYSO_GATEWAY_MAX_CALLS": "0"}, "SAYSO_GATEWAY_MAX_CALLS: "),
        ({"SAYSO_GATEWAY_TWILIO_AUTH_TOKENS": "tokens"}, "SAYSO_GATEWAY_PUBLIC_URL: must be"),
        ({"SAYSO_GATEWAY_LISTEN": "0.0.0.0:0"}, "in plaintext; use TLS"),
        ({"SAYSO_GATEWAY_LISTEN": "here"}, "is not host:port"),
        ({"SAYSO_GATEWAY_TLS_KEY": "key.pem"}, "go together"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, variables: dict[str, str], says: str) -> None:
    switched = {"SAYSO_GATEWAY_PCM": "true"} if variables else {}
    ended = run("-m", "service", "gateway", **(switched | variables))
    assert ended.returncode == 2
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_secret_that_others_can_read_is_refused(auth_tokens: Path) -> None:
    auth_tokens.chmod(0o644)
    variables = {
        "SAYSO_GATEWAY_TWILIO_AUTH_TOKENS": str(auth_tokens),
        "SAYSO_GATEWAY_PUBLIC_URL": "wss://voice.example.com",
        "SAYSO_GATEWAY_LISTEN": "127.0.0.1:0",
    }
    ended = run("-m", "service", "gateway", **variables)
    assert ended.returncode == 2
    assert "chmod 600" in ended.stderr


def test_it_says_that_it_is_healthy_and_stops_on_sigterm(auth_tokens: Path) -> None:
    with GatewayProcess(
        "127.0.0.1:1", twilio_auth_tokens=auth_tokens, public_url="wss://voice.example.com"
    ) as gateway:
        with urlopen(f"http://{gateway.address}/health", timeout=10) as answer:
            assert answer.status == 200
        assert "draining 0 calls" in gateway.terminate()


async def test_a_call_in_progress_ends_before_the_gateway_does(
    server: SaysoServer, auth_tokens: Path, caller: bytes
) -> None:
    """SIGTERM within a call: the call is verified to its end, and new ones are refused."""
    with GatewayProcess(
        server.address, twilio_auth_tokens=auth_tokens, public_url=PUBLIC_URL, drain_s=20
    ) as gateway:
        url = f"ws://{gateway.address}/twilio"
        messages = list(make_call(make_start("CA-drained", speaker_id="slt"), caller))
        async with connect(url, additional_headers=sign(), proxy=None) as socket:
            await send_call(socket, iter(messages[:10]))
            await asyncio.sleep(0.5)
            gateway.process.terminate()
            await asyncio.sleep(0.5)
            health = await asyncio.to_thread(read_health, gateway.address)
            async with connect(url, additional_headers=sign(), proxy=None) as late:
                await send_call(late, iter(messages[:2]))
                await late.wait_closed()
            assert late.close_code == 1008
            await send_call(socket, iter(messages[10:]))
            await socket.wait_closed()
        log = await asyncio.to_thread(gateway.terminate)
    assert health == 503
    assert "draining 1 calls" in log
    assert "call CA-drained: ACCEPTED" in log


def read_health(address: str) -> int:
    try:
        with urlopen(f"http://{address}/health", timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


async def test_calls_come_over_tls(
    server: SaysoServer, auth_tokens: Path, caller: bytes, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("localhost", [x509.DNSName("localhost")])
    with GatewayProcess(
        server.address,
        twilio_auth_tokens=auth_tokens,
        public_url=PUBLIC_URL,
        tls_certificate=pair.certificate,
        tls_key=pair.key,
    ) as gateway:
        _, port = gateway.address.split(":")
        trust = ssl.create_default_context(cafile=authority.certificate)
        async with connect(
            f"wss://localhost:{port}/twilio", additional_headers=sign(), ssl=trust, proxy=None
        ) as socket:
            start = make_start("CA-tls", speaker_id="slt")
            await send_call(socket, make_call(start, caller))
            await socket.wait_closed()
        assert "call CA-tls: ACCEPTED" in await asyncio.to_thread(gateway.terminate)
