"""Audio as recorders and telephones send it: heard or doubted, never taken for a stranger."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sayso import Client, RawAudio
from typer.testing import CliRunner

from service.commands.application import app
from tests.support.local_server import LocalServer
from tests.support.voices import clips

MULAW, ALAW = RawAudio("MULAW", 8000), RawAudio("ALAW", 8000)
LINEAR16 = RawAudio("LINEAR16", 8000)
TRIES = 12  # more than SAYSO_LOCKOUT_FAILURES


@pytest.fixture(scope="module")
def sayso(sqlite_server: LocalServer) -> Iterator[Client]:
    with sqlite_server.client() as client:
        for path in clips("slt", "enroll"):
            client.enroll("heard", path)
        yield client


def _telephone(path: Path, subtype: str) -> bytes:
    samples, rate = soundfile.read(path, dtype="float32")
    made = io.BytesIO()
    soundfile.write(made, samples[:: rate // 8000], 8000, format="RAW", subtype=subtype)
    return made.getvalue()


@pytest.fixture(scope="module")
def alaw() -> bytes:
    return _telephone(clips("slt", "verify")[0], "ALAW")


def test_the_wrong_law_is_doubted_and_never_counted(sayso: Client, alaw: bytes) -> None:
    for _ in range(TRIES):
        decision = sayso.verify("heard", alaw, raw=MULAW)
        assert decision.outcome == "INCONCLUSIVE"
        assert decision.reasons == ("IMPLAUSIBLE_AUDIO",)
        assert "looks like ALAW" in decision.explanation
    assert sayso.verify("heard", clips("slt", "verify")[0]).outcome == "ACCEPTED"


def test_the_wrong_law_is_doubted_in_a_call(sayso: Client, alaw: bytes) -> None:
    frames = (alaw[at : at + 160] for at in range(0, len(alaw), 160))
    *_, last = sayso.verify_stream("heard", frames, raw=MULAW)
    assert last.reasons == ("IMPLAUSIBLE_AUDIO",)
    assert last.llr is None


@pytest.mark.parametrize("declared", [MULAW, LINEAR16])
def test_implausible_audio_is_never_enrolled(
    sayso: Client, alaw: bytes, declared: RawAudio
) -> None:
    made = sayso.enroll("doubted", alaw, raw=declared)
    assert not made.stored
    assert made.reasons == ("IMPLAUSIBLE_AUDIO",)
    assert sayso.enroll("doubted", alaw, raw=ALAW).stored


def test_half_a_sample_at_hang_up_loses_no_decision(sayso: Client) -> None:
    samples, rate = soundfile.read(clips("slt", "verify")[0], dtype="int16")
    audio = samples.tobytes() + b"\x01"
    frames = (audio[at : at + 640] for at in range(0, len(audio), 640))
    *_, last = sayso.verify_stream("heard", frames, raw=RawAudio("LINEAR16", rate))
    assert last.outcome == "ACCEPTED"


def test_a_wav_is_decided_on_while_it_comes(sayso: Client) -> None:
    """As a pipe writes it: nobody knows yet how long it will be."""
    samples, rate = soundfile.read(clips("slt", "verify")[0], dtype="float32")
    made = io.BytesIO()
    soundfile.write(made, np.tile(samples, 4), rate, format="WAV", subtype="PCM_16")
    wav = bytearray(made.getvalue())
    wav[40:44] = bytes(4)
    frames = (bytes(wav[at : at + 640]) for at in range(0, len(wav), 640))
    decisions = list(sayso.verify_stream("heard", frames))
    assert len(decisions) > 2
    assert decisions[-1].outcome == "ACCEPTED"


def test_the_other_channel_is_told(sayso: Client) -> None:
    caller, rate = soundfile.read(clips("slt", "verify")[0], dtype="float32")
    made = io.BytesIO()
    soundfile.write(made, np.stack([0.0001 * caller, caller], axis=1), rate, format="FLAC")
    decision = sayso.verify("heard", made.getvalue(), channel=0)
    assert decision.reasons == ("NO_SPEECH",)
    assert "channel 1 is far louder" in decision.explanation
    assert sayso.verify("heard", made.getvalue(), channel=1).outcome == "ACCEPTED"


def test_silence_quiet_and_noise_are_told_apart(sayso: Client) -> None:
    noise = np.random.default_rng(0).normal(0, 1, 3 * 16000)
    explanations = []
    for level in (0.0, 0.001, 0.1):
        audio = np.round(noise * level * 32767 * 0.25).clip(-32768, 32767).astype("<i2").tobytes()
        decision = sayso.verify("heard", audio, raw=RawAudio("LINEAR16", 16000))
        assert decision.reasons == ("NO_SPEECH",)
        explanations.append(decision.explanation)
    silent, quiet, loud = explanations
    assert "it is silence" in silent
    assert "too quiet" in quiet
    assert "dBFS" in quiet
    assert "check its encoding" in loud


def test_one_bad_file_does_not_lose_the_others(
    sqlite_server: LocalServer, sayso: Client, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio at all" * 100)
    good = clips("slt", "verify")
    arguments = ["verify", "heard", str(good[0]), str(bad), str(good[1])]
    ran = CliRunner().invoke(
        app, [*arguments, "--server", sqlite_server.address], env={"COLUMNS": "250"}
    )
    assert ran.exit_code == 2, ran.output
    assert ran.output.count("ACCEPTED") == 2
    assert "not read" in ran.output
    enrolled = CliRunner().invoke(
        app, ["enroll", "some", str(bad), *map(str, good), "--server", sqlite_server.address]
    )
    assert enrolled.exit_code == 2
    assert enrolled.output.count("net speech in all") == 2


def test_the_command_guesses_no_rate(sqlite_server: LocalServer, tmp_path: Path) -> None:
    raw = tmp_path / "call.raw"
    raw.write_bytes(_telephone(clips("slt", "verify")[0], "PCM_16"))
    arguments = ["verify", "heard", str(raw), "--encoding", "LINEAR16"]
    ran = CliRunner().invoke(app, [*arguments, "--server", sqlite_server.address])
    assert ran.exit_code == 2
    assert "--sample-rate" in ran.output


def _convert(path: Path, *arguments: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-ac", "1", *arguments, "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg makes the audio")
def test_a_browsers_recording_is_the_same_voice(sayso: Client) -> None:
    (path, *_) = clips("slt", "verify")
    webm = _convert(path, "-c:a", "libopus", "-f", "webm", "-live", "1")
    assert webm[:4] == b"\x1a\x45\xdf\xa3"
    assert sayso.verify("heard", webm).accepted
    *_, last = sayso.verify_stream(
        "heard", (webm[at : at + 999] for at in range(0, len(webm), 999))
    )
    assert last.accepted


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg makes the audio")
@pytest.mark.skipif(find_spec("G722") is None, reason="pip install sayso[g722]")
def test_a_call_in_g722_is_the_same_voice(sayso: Client) -> None:
    assert "g722" in sayso.server_info().features
    audio = _convert(clips("slt", "verify")[0], "-ar", "16000", "-c:a", "g722", "-f", "g722")
    frames = (audio[at : at + 160] for at in range(0, len(audio), 160))
    *_, last = sayso.verify_stream("heard", frames, raw=RawAudio("G722", 16_000))
    assert last.accepted
    assert last.audio_s == pytest.approx(len(audio) / 8000, abs=0.05)
