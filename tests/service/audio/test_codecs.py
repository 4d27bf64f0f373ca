"""One name for a codec everywhere: the registry, the API, the client, the command line."""

import numpy as np
import pytest
from sayso import ENCODINGS, RawAudio
from sayso.messages import audio_config
from sayso.v1 import audio_pb2

from service.audio.codecs import CODECS, Codec
from service.commands.options import parse_raw_audio
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
    assert isinstance(fmt.open_codec(), CODECS[name])


def test_an_unknown_encoding_is_refused_by_the_client() -> None:
    with pytest.raises(ValueError, match="none of LINEAR16"):
        RawAudio("GSM", 8_000)


@pytest.mark.parametrize("codec", CODECS.values())
def test_a_codec_says_how_fast_its_bytes_come(codec: type[Codec]) -> None:
    data = np.random.default_rng(0).bytes(4_000)
    opened = codec(8_000, 2, 0)
    frames = opened.decode(data)
    assert frames.shape[1] == opened.channels == 2
    assert len(frames) / opened.sample_rate == pytest.approx(len(data) / opened.bytes_per_s)


@pytest.mark.parametrize("codec", CODECS.values())
def test_a_codec_keeps_its_state_between_pushes(codec: type[Codec]) -> None:
    data = np.random.default_rng(1).bytes(998)
    whole, in_pieces = codec(8_000, 1, 0), codec(8_000, 1, 0)
    pieces = [in_pieces.decode(data[at : at + 7]) for at in range(0, len(data), 7)]
    assert np.array_equal(np.concatenate(pieces), whole.decode(data))
