from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.data import inspection
from training.data.inspection import Inspection
from training.data.manifest import Row
from training.errors import ManifestError


def corpus(folder: Path) -> list[Row]:
    """Six clips of three speakers, and two files that are no audio."""
    rng = np.random.default_rng(0)
    audio = {name: rng.integers(-9000, 9000, 8000).astype(np.int16) for name in "abcde"}
    for name, pcm in audio.items():
        soundfile.write(folder / f"{name}.wav", pcm, 8000 if name == "e" else 16000)
    (folder / "b-again.wav").write_bytes((folder / "b.wav").read_bytes())
    soundfile.write(folder / "c.flac", audio["c"], 16000)
    soundfile.write(folder / "short.wav", audio["a"][:100], 16000)
    (folder / "broken.wav").write_bytes(b"RIFF and nothing else")
    names = ["a.wav", "b.wav", "b-again.wav", "c.wav", "c.flac", "e.wav", "short.wav"]
    speakers = ["1", "1", "1", "2", "2", "1", "3"]
    rows = [
        Row(folder / name, "y" if name == "e.wav" else "x", speaker, "train", "s" * (i % 2))
        for i, (name, speaker) in enumerate(zip(names, speakers, strict=True))
    ]
    missing = [Row(folder / name, "x", "1", "train") for name in ("broken.wav", "absent.wav")]
    return [*rows, *missing]


def inspect(rows: list[Row], short_s: float = 0.1) -> Inspection:
    return inspection.inspect(rows, short_s=short_s)


def test_counts_of_what_can_be_read(tmp_path: Path) -> None:
    done: list[None] = []
    rows = corpus(tmp_path)
    found = inspection.inspect(rows, short_s=0.1, advance=lambda: done.append(None))
    assert len(done) == len(rows)
    assert found.clips == 7
    assert found.hours == pytest.approx((5 * 0.5 + 1.0 + 100 / 16000) / 3600)
    assert found.speakers == 4, "speaker 1 of corpus y is another than 1 of x"
    assert found.sessions == 3
    assert found.clips_without_session == 4
    assert found.clips_per_speaker == (1, 1, 1.5, 2.25, 3)
    assert found.clips_by_corpus == {"x": 6, "y": 1}
    assert found.clips_by_rate_hz == {8000: 1, 16000: 6}


def test_duplicates_and_bad_files_are_named(tmp_path: Path) -> None:
    found = inspect(corpus(tmp_path))
    names = [[Path(path).name for path in group] for group in found.same_bytes]
    assert names == [["b.wav", "b-again.wav"]]
    names = [[Path(path).name for path in group] for group in found.same_audio]
    assert names == [["c.wav", "c.flac"]]
    assert [Path(path).name for path in found.unreadable] == ["broken.wav", "absent.wav"]
    assert [Path(path).name for path in found.too_short] == ["short.wav"]
    assert found.faults == ["2 clips repeat the audio of another: list each recording once"]
    once = [row for row in corpus(tmp_path) if row.path.name not in ("b-again.wav", "c.flac")]
    assert inspect(once).faults == []


def test_a_recording_of_two_speakers_is_a_fault(tmp_path: Path) -> None:
    rows = corpus(tmp_path)
    found = inspect([*rows, Row(rows[0].path, "x", "2", "train")])
    assert found.audio_of_several == [["x/1", "x/2"]]
    assert "1 recordings are listed for several speakers: keep one" in found.faults
    assert inspect(rows).audio_of_several == []


def test_audio_that_training_cannot_learn_from_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 8000).astype(np.float32)
    spoilt = noise.copy()
    spoilt[100] = np.nan
    for name, samples in {"real": noise, "silent": 0 * noise, "spoilt": spoilt}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "cut.wav", noise[::-1], 16000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:-2000])
    names = ("real", "silent", "spoilt", "cut")
    found = inspect([Row(tmp_path / f"{name}.wav", "x", name, "train") for name in names])
    for kind in ("silent", "spoilt", "cut"):
        listed = {"silent": found.silent, "spoilt": found.not_finite, "cut": found.cut_short}[kind]
        assert [Path(path).stem for path in listed] == [kind]
    assert (found.clips, found.unreadable) == (2, [])
    assert len(found.faults) == 3


def test_a_speaker_in_two_splits_is_a_fault(tmp_path: Path) -> None:
    rows = corpus(tmp_path)
    rows[3] = Row(rows[3].path, "x", "2", "dev")
    found = inspect(rows)
    assert found.speakers_across_splits == {"x/2": ["dev", "train"]}
    assert "1 speakers are in more than one split" in found.faults[0]
    assert found.clips_by_split == {"dev": 1, "train": 6}


def test_too_little_data_is_a_fault_and_none_an_error(tmp_path: Path) -> None:
    rows = corpus(tmp_path)
    assert "single speaker" in inspect(rows[:2]).faults[0]
    assert "no clip" in inspect(rows[-2:]).faults[0]
    with pytest.raises(ManifestError, match="empty"):
        inspect([])
