"""A real server with two voices, and audio of calls as platforms send it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.call_audio import read_mulaw
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaysoServer]:
    folder = tmp_path_factory.mktemp("server")
    policies = folder / "policies.toml"
    policies.write_text('[payments]\ndescription = "transfers"\nmin_net_speech_s = 2\n')
    with SaysoServer(
        store=f"sqlite:///{folder / 'sayso.db'}", policies=policies, lock_after_failures=0
    ) as running:
        with running.client() as sayso:
            for speaker in ("slt", "rms"):
                for path in clips(speaker, "enroll"):
                    sayso.enroll(speaker, path)
        yield running


@pytest.fixture(scope="session")
def caller() -> bytes:
    """Ten seconds and more of the speaker slt, mu-law at 8 kHz."""
    return read_mulaw(*clips("slt", "verify"), *clips("slt", "enroll"))


@pytest.fixture(scope="session")
def impostor() -> bytes:
    return read_mulaw(*clips("rms", "verify"), *clips("rms", "enroll"))


@pytest.fixture
def auth_tokens(tmp_path: Path) -> Path:
    path = tmp_path / "twilio-tokens"
    path.touch(mode=0o600)
    path.write_text("0123456789abcdef0123456789abcdef  # primary\nfedcba9876543210\n")
    return path
