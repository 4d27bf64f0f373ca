"""Harnesses reach the decoders behind the checksums: a repaired file is heard, a broken one not."""

import pytest

from service.audio.decoding import AudioFormat, decode
from service.errors import AudioError
from tests.fuzz import checksums, sound


@pytest.mark.parametrize("file", list(sound.ogg_files()), ids=len)
def test_an_ogg_file_keeps_its_checksums(file: bytes) -> None:
    assert checksums.ogg(file) == file


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_the_checksums_of_an_ogg_file_are_put_right(subtype: str) -> None:
    file = sound.encoded(sound.made(0.5, 16_000), 16_000, "OGG", subtype)
    broken = bytearray(file)
    for page in (at for at in range(len(file)) if file[at : at + 4] == b"OggS"):
        broken[page + 22 : page + 26] = bytes(4)
    with pytest.raises(AudioError):
        decode(bytes(broken), AudioFormat(), rate=16_000, max_s=5)
    assert checksums.ogg(bytes(broken)) == file


def test_the_checksums_of_a_flac_frame_are_put_right() -> None:
    file = sound.encoded(sound.made(0.1, 16_000), 16_000, "FLAC", "PCM_16")
    assert checksums.flac(file) == file
    changed = bytearray(file)
    changed[-60] ^= 0x55
    whole = decode(file, AudioFormat(), rate=16_000, max_s=5)
    heard = decode(checksums.flac(bytes(changed)), AudioFormat(), rate=16_000, max_s=5)
    assert heard.size == whole.size
    assert not (heard == whole).all()
