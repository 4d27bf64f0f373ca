"""The Python examples run against a real server and print what they should."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_server import LocalServer

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "python"
AUDIO = ROOT / "demo" / "audio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("server")
    with LocalServer(store=f"sqlite:///{folder / 'sayso.db'}") as running:
        yield running


def run(program: str, server: LocalServer, audio: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, FOLDER / program, server.address, audio],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_one_call_is_decided_while_it_goes_on(server: LocalServer) -> None:
    enrolled, verified, *heard = run("verify_call.py", server, AUDIO / "slt")
    assert (enrolled, verified) == ("enrolled", "ACCEPTED")
    assert heard[0].endswith("s: INCONCLUSIVE")
    assert heard[-1].endswith("s: ACCEPTED")


def test_it_has_15_lines() -> None:
    assert len((FOLDER / "verify_call.py").read_text().splitlines()) <= 15


def test_several_calls_are_decided_at_once(server: LocalServer) -> None:
    said = dict(line.split(": ") for line in run("answer_calls.py", server, AUDIO))
    outcomes = {claim: words.split()[0] for claim, words in said.items()}
    assert outcomes == {
        "slt is slt": "ACCEPTED",
        "rms is rms": "ACCEPTED",
        "slt is rms": "REJECTED",
    }
