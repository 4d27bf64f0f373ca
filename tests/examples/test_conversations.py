"""The processors for Pipecat and LiveKit verify a caller on a real server, in the packages' own
pipeline and track. No LiveKit server runs: the track is one of this process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT
from tests.support.wheels import PIP, environment

FOLDER = ROOT / "examples" / "python"
AUDIO = ROOT / "demo" / "audio"

PIPECAT_NEEDS = (
    "pipecat-ai", "aiofiles", "aiohappyeyeballs", "aiohttp", "aiosignal", "attrs",
    "docstring_parser", "frozenlist", "idna", "loguru", "loudness", "multidict", "propcache",
    "sentencex", "wait_for2", "websockets", "yarl", "audioop-lts; python_version >= '3.13'",
)  # fmt: skip
"""What the pipeline imports and the development environment lacks: all of it has 500 MB."""

CALLS = {"slt/verify-2.wav": "slt", "kal/verify-2.wav": "slt", "rms/verify-2.wav": ""}
"""Who is claimed to speak: the right speaker, the wrong one, and nobody, which is an error."""

READ_CALLS = """
import asyncio, sys
import soundfile
from sayso import AsyncClient

address, *calls = sys.argv[1:]

def read_call(recording):
    samples, rate = soundfile.read(recording, dtype="int16")
    step = rate // 50
    return rate, [samples[at : at + step].tobytes() for at in range(0, len(samples), step)]

async def main():
    async with AsyncClient(address) as sayso:
        for claim, recording in zip(calls[::2], calls[1::2]):
            print(await listen(sayso, claim, *read_call(recording)))
"""

PIPECAT = """
from pipecat.frames.frames import ErrorFrame, InputAudioRawFrame
from pipecat.tests.utils import run_test
from pipecat_processor import SpeakerDecisionFrame, SpeakerVerifier

async def listen(sayso, claim, rate, frames):
    verifier = SpeakerVerifier(sayso, claim)
    sent = [InputAudioRawFrame(frame, rate, 1) for frame in frames]
    down, up = await run_test(verifier, frames_to_send=sent, start_timeout=30)
    assert [frame.audio for frame in down if isinstance(frame, InputAudioRawFrame)] == frames
    decisions = [frame.decision for frame in down if isinstance(frame, SpeakerDecisionFrame)]
    errors = [frame.exception.reason for frame in up if isinstance(frame, ErrorFrame)]
    return decisions[-1].outcome if decisions else errors[0]

asyncio.run(main())
"""

LIVEKIT = """
from livekit import rtc
from livekit_agent import verify_track
from sayso import InvalidArgument

async def listen(sayso, claim, rate, frames):
    source = rtc.AudioSource(rate, 1)
    track = rtc.LocalAudioTrack.create_audio_track("microphone", source)

    async def speak():
        for frame in frames:
            await source.capture_frame(rtc.AudioFrame(frame, rate, 1, len(frame) // 2))

    speaking = asyncio.create_task(speak())
    try:
        async for decision in verify_track(sayso, claim, track):
            pass
    except InvalidArgument as error:
        return error.reason
    finally:
        speaking.cancel()
    return decision.outcome

asyncio.run(main())
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with LocalServer(store=f"sqlite:///{tmp_path / 'sayso.db'}") as server:
        with server.client() as sayso:
            sayso.enroll("slt", AUDIO / "slt" / "enroll-1.flac")
        yield server.address


def install(folder: Path, *packages: str) -> None:
    """Install packages without what they depend on, which is here or among them."""
    command = [*PIP, "install", "--no-deps", "--no-compile", "--target", str(folder), *packages]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if "Could not find a version" in done.stderr or "Connection" in done.stderr:
        pytest.skip(f"{packages[0]} cannot be had: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def run(program: str, packages: Path, address: str) -> list[str]:
    """What the program prints of each of `CALLS`."""
    path = os.pathsep.join(map(str, (ROOT / "client", FOLDER, packages)))
    calls = [word for call, claim in CALLS.items() for word in (claim, AUDIO / call)]
    done = subprocess.run(
        [sys.executable, "-c", READ_CALLS + program, address, *calls],
        env={**environment(), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow  # it downloads 25 megabytes
def test_a_pipecat_pipeline_verifies_its_user(address: str, tmp_path: Path) -> None:
    install(tmp_path / "packages", *PIPECAT_NEEDS)
    answers = run(PIPECAT, tmp_path / "packages", address)
    assert answers == ["ACCEPTED", "REJECTED", "INVALID_FIELD"]


@pytest.mark.slow  # it downloads 15 megabytes
def test_a_livekit_track_is_verified(address: str, tmp_path: Path) -> None:
    install(tmp_path / "packages", "livekit")
    answers = run(LIVEKIT, tmp_path / "packages", address)
    assert answers == ["ACCEPTED", "REJECTED", "INVALID_FIELD"]
