"""One name for a codec everywhere: the registry, the API, the client, the command line."""

import shutil
import subprocess
from importlib.util import find_spec

import numpy as np
import pytest
from sayso import ENCODINGS, RawAudio
from sayso.messages import audio_config
from sayso.v1 import audio_pb2

from service.audio.codecs import CODECS, G722, Codec
from service.commands.options import parse_raw_audio
from service.errors import AudioError
from service.rpc.messages import parse_audio_format

WITHOUT_CODEC = {"UNSPECIFIED", "FILE"}
API = audio_pb2.AudioEncoding.items()


def test_every_encoding_of_the_api_has_a_codec_and_every_codec_a_name_in_it() -> None:
    names = {name.removeprefix("AUDIO_ENCODING_") for name, _ in API}
    assert names == {*WITHOUT_CODEC, *CODECS}
    assert set(ENCODINGS) == set(CODECS)


@pytest.mark.parametrize("name", CODECS)
def test_a_name_of_the_command_line_reaches_its_codec(name: str) -> None:
    raw = parse_raw_audio(name, 8_000)
    assert raw == RawAudio(name, 8_000)
    fmt = parse_audio_format(audio_config(raw, None))
    assert fmt.codec is CODECS[name]
    if name != "G722":
        assert isinstance(fmt.open_codec(), CODECS[name])


def test_an_unknown_encoding_is_refused_by_the_client() -> None:
    with pytest.raises(ValueError, match="none of LINEAR16"):
        RawAudio("GSM", 8_000)


OF_ANY_RATE = [codec for codec in CODECS.values() if codec is not G722]


@pytest.mark.parametrize("codec", OF_ANY_RATE)
def test_a_codec_says_how_fast_its_bytes_come(codec: type[Codec]) -> None:
    data = np.random.default_rng(0).bytes(4_000)
    opened = codec(8_000, 2, 0)
    frames = opened.decode(data)
    assert frames.shape[1] == opened.channels == 2
    assert len(frames) / opened.sample_rate == pytest.approx(len(data) / opened.bytes_per_s)


@pytest.mark.parametrize("codec", OF_ANY_RATE)
def test_a_codec_keeps_its_state_between_pushes(codec: type[Codec]) -> None:
    data = np.random.default_rng(1).bytes(998)
    whole, in_pieces = codec(8_000, 1, 0), codec(8_000, 1, 0)
    pieces = [in_pieces.decode(data[at : at + 7]) for at in range(0, len(data), 7)]
    assert np.array_equal(np.concatenate(pieces), whole.decode(data))


needs_g722 = pytest.mark.skipif(find_spec("G722") is None, reason="pip install sayso[g722]")


@needs_g722
def test_g722_keeps_its_state_and_says_how_fast_its_bytes_come() -> None:
    data = np.random.default_rng(2).bytes(8_000)
    whole, in_pieces = G722(16_000, 1, 0), G722(16_000, 1, 0)
    pieces = [in_pieces.decode(data[at : at + 7]) for at in range(0, len(data), 7)]
    frames = whole.decode(data)
    assert np.array_equal(np.concatenate(pieces), frames)
    assert frames.shape == (16_000, 1)
    assert whole.bytes_per_s == 8_000
    assert np.abs(frames).max() <= 1


@needs_g722
@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg encodes")
def test_g722_of_another_encoder_is_the_same_sound() -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000) / 2
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "s16le",
        "-ar",
        "16000",
        "-ac",
        "1",
        "-i",
        "-",
        "-c:a",
        "g722",
        "-f",
        "g722",
        "-",
    ]
    pcm = (tone * 32_767).astype("<i2").tobytes()
    encoded = subprocess.run(command, input=pcm, capture_output=True, check=True).stdout
    decoded = G722(16_000, 1, 0).decode(encoded)[:, 0]
    late = 22  # samples, of the two filters
    error = decoded[late : len(tone)] - tone[: len(decoded) - late][: len(tone) - late]
    assert 10 * np.log10(np.mean(tone**2) / np.mean(error**2)) > 20


@pytest.mark.parametrize(
    ("rate", "channels", "field"),
    [(8_000, 1, "audio_config.sample_rate_hertz"), (16_000, 2, "audio_config.channels")],
)
def test_g722_of_another_rate_or_two_channels_is_refused(
    rate: int, channels: int, field: str
) -> None:
    with pytest.raises(AudioError) as refused:
        G722(rate, channels, 0)
    assert refused.value.field == field


def test_a_server_without_g722_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.audio.codecs.find_spec", lambda name: None)
    with pytest.raises(AudioError, match=r"pip install sayso\[g722\]") as refused:
        G722(16_000, 1, 0)
    assert refused.value.field == "audio_config.encoding"
