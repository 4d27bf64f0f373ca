"""Recordings of a few seconds, cut from the demo's voices, and requests that verify them.

demo/audio -> one long recording at 16 kHz -> pieces -> G.711 at 8 kHz | PCM at 16 kHz -> request
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray
from sayso.v1 import audio_pb2
from sayso.v1 import verification_pb2 as pb

from service.audio.codecs import Linear16, Mulaw
from service.audio.decoding import AudioFormat, decode
from tests.support.sayso_server import ROOT

RATE = 16_000
TELEPHONE_RATE = 8_000
SHORTEST_S, LONGEST_S = 1.0, 10.0
COUNT = 20  # of a set: 1 to 10 s, each length in both encodings

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Clip:
    """Raw audio of `length_s` seconds, and how it is encoded."""

    audio: bytes
    fmt: AudioFormat
    length_s: float

    def samples(self) -> Samples:
        """Decode the clip as the service does, to `(n,)` at 16 kHz."""
        return decode(self.audio, self.fmt, rate=RATE, max_s=LONGEST_S + 1)

    def request(self, speaker_id: str) -> bytes:
        """Serialize a `VerifyRequest`."""
        assert self.fmt.codec is not None, "clips are raw audio"
        encoding = audio_pb2.AudioEncoding.Value(f"AUDIO_ENCODING_{self.fmt.codec.name}")
        config = audio_pb2.AudioConfig(
            encoding=encoding, sample_rate_hertz=self.fmt.sample_rate or 0
        )
        request = pb.VerifyRequest(speaker_id=speaker_id, audio_config=config, audio=self.audio)
        return request.SerializeToString()


def read_voices() -> list[Samples]:
    """Read the demo's recordings, each `(n,)` at 16 kHz."""
    paths = sorted((ROOT / "demo" / "audio").glob("*/*.*"))
    return [decode(path.read_bytes(), AudioFormat(), rate=RATE, max_s=60) for path in paths]


def cut_mixed() -> list[Clip]:
    """Cut clips of 1 to 10 s, half of them in G.711 and half in PCM."""
    lengths_s = np.linspace(SHORTEST_S, LONGEST_S, COUNT // 2)
    return cut(np.repeat(lengths_s, 2).tolist(), np.random.default_rng(0))


def cut(lengths_s: Sequence[float], chance: np.random.Generator) -> list[Clip]:
    """Cut a clip of each length from anywhere in the recordings, by turns in G.711 and PCM."""
    recorded = np.concatenate(read_voices())
    encoders = (encode_telephone, encode_wideband)
    clips = []
    for number, length_s in enumerate(lengths_s):
        size = round(length_s * RATE)
        start = int(chance.integers(len(recorded) - size))
        clips.append(encoders[number % len(encoders)](recorded[start : start + size]))
    return clips


def encode_telephone(samples: Samples) -> Clip:
    """Encode samples as mu-law at 8 kHz."""
    audio = _encode(samples[:: RATE // TELEPHONE_RATE], TELEPHONE_RATE, "ULAW")
    return Clip(audio, AudioFormat(Mulaw, TELEPHONE_RATE), len(samples) / RATE)


def encode_wideband(samples: Samples) -> Clip:
    audio = _encode(samples, RATE, "PCM_16")
    return Clip(audio, AudioFormat(Linear16, RATE), len(samples) / RATE)


def _encode(samples: Samples, rate: int, subtype: str) -> bytes:
    made = io.BytesIO()
    soundfile.write(made, samples, rate, format="RAW", subtype=subtype)
    return made.getvalue()
