from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.data import recording
from training.data.library import decode
from training.errors import AudioError

TONE = (0.3 * np.sin(np.arange(8000) * 0.1)).astype(np.float32)
STREAMED = b"\xff\xff\xff\xff"


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize("suffix", ["wav", "aiff", "au"])
def test_every_subtype_is_heard_at_its_level(tmp_path: Path, subtype: str, suffix: str) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, TONE, 16000, subtype=subtype)
    heard = decode(path, 16000) / 32768
    assert np.abs(heard - TONE).max() < 0.02


def test_real_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", TONE * 10, 16000, subtype="FLOAT")
    heard = recording.read(tmp_path / "loud.wav").samples
    assert (heard.min(), heard.max()) == (-32768, 32767)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    soundfile.write(tmp_path / "bad.wav", np.append(TONE, np.float32(bad)), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="no finite numbers"):
        decode(tmp_path / "bad.wav", 16000)


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_silence_is_refused(tmp_path: Path, level: float) -> None:
    soundfile.write(tmp_path / "silent.wav", np.full((800, 2), level), 16000)
    with pytest.raises(AudioError, match=r"silent\.wav: is silent"):
        recording.read(tmp_path / "silent.wav")


@pytest.mark.parametrize("extra", [None, b"LIST\x03\x00\x00\x00abc\x00"])
def test_a_wav_file_that_ends_early_is_known(tmp_path: Path, extra: bytes | None) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, TONE, 16000)
    whole = path.read_bytes()
    if extra:
        whole = whole[:12] + extra + whole[12:]
        path.write_bytes(whole)
    assert not recording.read(path).cut_short
    path.write_bytes(whole[:-1000])
    assert recording.read(path).cut_short
    place = whole.index(b"data") + 4
    path.write_bytes(whole[:place] + STREAMED + whole[place + 4 : -1000])
    assert not recording.read(path).cut_short, "a recorder that could not seek back"
