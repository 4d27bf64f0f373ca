"""Whatever the server writes, it never holds audio, a vector or a speaker's id."""

import base64
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sayso import Client, RawAudio, SaysoError

from tests.support.redis_server import RedisServer
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

SPEAKER = "Distinctive-Speaker-73915"
STRANGER = "Distinctive-Stranger-46028"
GROUP = "Distinctive-Group-90817"
NOTE = "Distinctive-Note-55102"
ENROL, VERIFY = clips("slt", "enroll")[0], clips("slt", "verify")[0]
NO_AUDIO = b"RIFF-but-nothing-that-anybody-could-decode" * 20
STEP_SAMPLES = 4000


def shapes(data: bytes) -> Iterator[str]:
    """How bytes look when they are written: pieces of them in hex, base64, as Python shows them."""
    for start in range(0, min(len(data), 4096) - 64, 512):
        piece = data[start : start + 24]
        yield piece.hex()
        yield from (base64.b64encode(piece[shift:][:21]).decode() for shift in range(3))
        yield repr(piece)[2:-1]
        yield ", ".join(map(str, piece[:8]))


def values_in(line: str, vector: np.ndarray) -> list[str]:
    """The values of a vector that a line shows to five places; one alone may be seconds."""
    values = [f"{abs(value):.6f}"[:7] for value in vector if abs(value) > 0.01]
    seen = [value for value in values if value in line]
    return seen if len(seen) > 1 else []


def found(text: str, names: list[str], pieces: list[bytes], vectors: list[np.ndarray]) -> list[str]:
    sought = [form for name in names for form in (name, name.encode().hex())]
    sought += [base64.b64encode(name.encode())[:-4].decode() for name in names]
    sought += [shape for piece in pieces for shape in shapes(piece)]
    sought += [shape for vector in vectors for shape in shapes(vector.astype("<f4").tobytes())]
    written = [each for each in sought if each in text]
    for line in text.splitlines():
        written += [value for vector in vectors for value in values_in(line, vector)]
    return written


@pytest.mark.parametrize(
    "line",
    [
        f"enrolled {SPEAKER}",
        f"key {SPEAKER.encode().hex()}",
        f"record {base64.b64encode(SPEAKER.encode()).decode()}",
        f"{VERIFY.read_bytes()[1000:1600]!r}",
        VERIFY.read_bytes().hex(),
        base64.b64encode(b"." + VERIFY.read_bytes()).decode(),
        f"{list(np.array([0.123456, -0.0543219], 'f4'))}",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    vectors = [np.array([0.123456, -0.0543219], "f4")]
    assert found(line, [SPEAKER], [VERIFY.read_bytes()], vectors)


def refused(sayso: Client, voice: object, speaker: str = SPEAKER) -> None:
    with pytest.raises(SaysoError):
        sayso.verify(speaker, voice)  # type: ignore[arg-type]


def everything(sayso: Client, samples: np.ndarray, raw: RawAudio) -> np.ndarray:
    """Every kind of call, some of which fail; the vector that was given out."""
    sayso.enroll(SPEAKER, ENROL, metadata={"note": NOTE})
    sayso.enroll(SPEAKER, ENROL)
    sayso.verify(SPEAKER, VERIFY)
    pieces = (
        samples[at : at + STEP_SAMPLES].tobytes() for at in range(0, len(samples), STEP_SAMPLES)
    )
    assert list(sayso.verify_stream(SPEAKER, pieces, raw=raw))
    assert sayso.verify(STRANGER, VERIFY).outcome == "NOT_ENROLLED"
    refused(sayso, NO_AUDIO)
    refused(sayso, VERIFY, "\n" + SPEAKER)
    refused(sayso, VERIFY, SPEAKER * 20)
    sayso.groups.create(GROUP)
    sayso.groups.add_members(GROUP, [SPEAKER])
    with pytest.raises(SaysoError):
        sayso.groups.add_members(GROUP, [STRANGER])
    sayso.identify(GROUP, VERIFY)
    with pytest.raises(SaysoError):
        sayso.identify(STRANGER, VERIFY)
    sayso.speakers.opt_out(STRANGER)
    with suppress(SaysoError):
        sayso.enroll(STRANGER, ENROL)
    return np.array(sayso.embed(VERIFY).values)


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_holds_audio_a_vector_or_an_id(tmp_path: Path, form: str) -> None:
    samples, rate = soundfile.read(VERIFY, dtype="int16")
    with (
        RedisServer(tmp_path) as redis,
        SaysoServer(store=redis.url, log_level="debug", log_format=form) as server,
        server.client() as sayso,
    ):
        vector = everything(sayso, samples, RawAudio("LINEAR16", rate))
        redis.kill()
        refused(sayso, VERIFY)
        with pytest.raises(SaysoError):
            sayso.speakers.delete(SPEAKER)
        redis.start()
        log = server.terminate()
    assert "/sayso.v1.VerificationService/Verify UNAVAILABLE" in log
    assert "DEBUG" in log or '"debug"' in log
    pieces = [ENROL.read_bytes(), VERIFY.read_bytes(), samples.tobytes(), NO_AUDIO]
    assert found(log, [SPEAKER, STRANGER, GROUP, NOTE], pieces, [vector]) == []
