"""Two people who talk by turns in one recording are not enrolled as one."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from sayso import BatchItem, Client

from tests.support.local_server import LocalServer
from tests.support.voices import clips

RATE = 16_000
PEOPLE = ("awb", "rms", "slt")


@pytest.fixture(scope="module")
def sayso(sqlite_server: LocalServer) -> Iterator[Client]:
    with sqlite_server.client() as client:
        yield client


def _speech(who: str) -> np.ndarray:
    """All wideband recordings of a person, at one level."""
    read = [soundfile.read(path, dtype="float32") for path in clips(who, "")]
    whole = np.concatenate([samples for samples, rate in read if rate == RATE])
    return 0.05 / np.sqrt(np.mean(whole**2)) * whole


def _flac(samples: np.ndarray) -> bytes:
    made = io.BytesIO()
    soundfile.write(made, samples, RATE, format="FLAC")
    return made.getvalue()


def _turns(one: str, other: str, turn_s: float) -> bytes:
    voices = [_speech(one), _speech(other)]
    turn = int(turn_s * RATE)
    count = min(map(len, voices)) // turn
    return _flac(
        np.concatenate(
            [voice[at * turn : (at + 1) * turn] for at in range(count) for voice in voices]
        )
    )


@pytest.mark.parametrize(
    ("pair", "turn_s"),
    [(("awb", "slt"), 3.0), (("awb", "slt"), 4.0), (("rms", "slt"), 4.0), (("rms", "slt"), 5.0)],
)
def test_turns_are_several_voices(sayso: Client, pair: tuple[str, str], turn_s: float) -> None:
    made = sayso.enroll(f"{pair} {turn_s}", _turns(*pair, turn_s))
    assert made.reasons == ("MULTIPLE_VOICES",)
    assert not made.stored


def test_turns_are_several_voices_in_a_batch(sayso: Client) -> None:
    items = [
        BatchItem("two", _turns("awb", "slt", 3.0)),
        BatchItem("one", _flac(_speech("slt"))),
    ]
    made = {result.speaker_id: result.enrollment for result in sayso.batch_enroll(items)}
    assert made["two"] is not None
    assert made["two"].reasons == ("MULTIPLE_VOICES",)
    assert made["one"] is not None
    assert made["one"].stored


@pytest.mark.parametrize("who", PEOPLE)
def test_one_voice_is_one(sayso: Client, who: str) -> None:
    assert sayso.enroll(who, _flac(_speech(who))).stored
