"""WebM as browsers record it, and as nobody should send it."""

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from service.audio.decoding import AudioFormat, StreamDecoder, decode
from service.errors import AudioError
from tests.fuzz import sound
from tests.support import webm

RATE = 16_000
TONE = sound.made(1.5, RATE)
OGG = sound.encoded(TONE, RATE, "OGG", "OPUS")
HEAD, PACKETS = webm.read_ogg(OGG)
TRACK = webm.track(HEAD)
MADE = webm.write(PACKETS, tracks=[TRACK])


def _decoded(data: bytes, max_s: float = 60.0) -> np.ndarray:
    return decode(data, AudioFormat(), rate=RATE, max_s=max_s)


def test_it_decodes_to_what_the_same_packets_do_in_ogg() -> None:
    ogg, made = _decoded(OGG), _decoded(MADE)
    assert np.array_equal(made[: len(ogg) - RATE // 20], ogg[: -RATE // 20])
    assert len(made) - len(ogg) < 0.03 * RATE, "only the last packet is not trimmed"


def test_any_chunking_gives_the_same_samples() -> None:
    decoder = StreamDecoder(AudioFormat(), rate=RATE, max_s=60)
    pieces = [decoder.push(MADE[at : at + 7]) for at in range(0, len(MADE), 7)]
    assert np.array_equal(np.concatenate([*pieces, *decoder.blocks()]), _decoded(MADE))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg makes the files")
@pytest.mark.parametrize("live", [False, True])
def test_files_of_another_writer_are_read(tmp_path: Path, live: bool) -> None:
    (tmp_path / "in.wav").write_bytes(sound.encoded(TONE, RATE, "WAV", "PCM_16"))
    video = ["-f", "lavfi", "-i", "testsrc=size=64x64:duration=1.5", "-c:v", "libvpx"]
    command = ["ffmpeg", "-v", "error", "-i", "in.wav", *(video if live else []), "-c:a", "libopus"]
    command += ["-live", "1"] if live else []
    subprocess.run([*command, "-f", "webm", "out.webm"], cwd=tmp_path, check=True)
    samples = _decoded((tmp_path / "out.webm").read_bytes())
    assert len(samples) == pytest.approx(len(TONE), abs=0.05 * RATE)
    assert np.argmax(np.abs(np.fft.rfft(samples[:RATE]))) == pytest.approx(330, abs=1)


def test_a_file_of_a_recorder_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    whole = _decoded(MADE)
    for end in range(len(MADE) // 2, len(MADE), 97):
        samples = _decoded(MADE[:end])
        assert 0 < len(samples) <= len(whole)


def test_no_cut_and_no_changed_byte_raises_anything_else() -> None:
    chance = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(MADE)
        for at in chance.integers(0, 400, 3):
            data[at] = chance.integers(0, 256)
        for hostile in (bytes(data), MADE[: chance.integers(1, 400)]):
            try:
                _decoded(hostile)
            except AudioError as refused:
                assert refused.message


REFUSED = {
    "two tracks": (webm.write(PACKETS, tracks=[TRACK, webm.track(HEAD, 2)]), "2 tracks of audio"),
    "no track": (webm.write(PACKETS, tracks=[]), "0 tracks of audio"),
    "Vorbis": (webm.write(PACKETS, tracks=[webm.track(HEAD, codec=b"A_VORBIS")]), "else than Opus"),
    "encrypted": (
        webm.write(PACKETS, tracks=[webm.track(HEAD, more=webm.element(b"\x6d\x80", b""))]),
        "else than Opus",
    ),
    "no head": (webm.write(PACKETS, tracks=[webm.track(b"")]), "else than Opus"),
    "a Vorbis head": (
        webm.write(PACKETS, tracks=[webm.track(b"\x01vorbis" * 9)]),
        "else than Opus",
    ),
    "laced": (
        webm.write([], tracks=[TRACK], blocks=webm.block(PACKETS[0], 0, flags=0x82)),
        "several packets",
    ),
    "packets of no frame": (webm.write([b"\x03\x00"] * 9, tracks=[TRACK]), "damaged"),
    "a block without a header": (
        webm.write([], tracks=[TRACK], blocks=webm.element(b"\xa3", b"\x81")),
        "damaged",
    ),
    "no packets": (webm.write([], tracks=[TRACK]), "no samples"),
    "packets of another track": (
        webm.write([], tracks=[TRACK], blocks=webm.block(PACKETS[0], 0, number=5)),
        "no samples",
    ),
    "an unknown size where none may be": (
        MADE + webm.element(b"\xec", b"", size=webm.UNKNOWN),
        "damaged",
    ),
    "an id of five bytes": (MADE + b"\x08\x01\x01\x01\x01\x80", "damaged"),
    "nothing but its first bytes": (webm.EBML, "0 tracks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_and_other_files_are_refused(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(AudioError, match=message):
        _decoded(data)


def test_more_audio_than_the_limit_is_refused_by_its_packets() -> None:
    with pytest.raises(AudioError, match="longer than the limit of 1 s"):
        _decoded(webm.write(PACKETS * 3, tracks=[TRACK]), max_s=1.0)


def test_millions_of_elements_end_soon() -> None:
    began = time.process_time()
    with pytest.raises(AudioError, match="damaged"):
        _decoded(webm.EBML + b"\x80" + b"\xec\x80" * 4_000_000)
    assert time.process_time() - began < 3
