from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.data.library import Clip, Library, hold_out, load_clips, load_noises, read_manifest
from training.errors import ManifestError

HEADER = "path,corpus,speaker,split,seconds\n"


def write(folder: Path, rows: str, header: str = HEADER) -> Path:
    path = folder / "manifest.csv"
    path.write_text(header + rows, encoding="utf-8")
    return path


def test_reads_one_split_and_tells_corpora_apart(tmp_path: Path) -> None:
    rows = "a.wav,x,1,train,1\nb.wav,y,1,train,1\nc.wav,y,2,dev,1\n"
    clips = read_manifest(write(tmp_path, rows))
    assert clips == [Clip(tmp_path / "a.wav", "x", "x/1"), Clip(tmp_path / "b.wav", "y", "y/1")]


@pytest.mark.parametrize("rows", ["", "a.wav,x,1,dev,1\nb.wav,x,2,dev,1\n", "a.wav,x,1,train,1\n"])
def test_empty_or_single_speaker_manifest_is_an_error(tmp_path: Path, rows: str) -> None:
    with pytest.raises(ManifestError, match="at least two speakers"):
        read_manifest(write(tmp_path, rows))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_marked_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(HEADER + "a.wav,x,José,train,1\nb.wav,x,2,train,1\n", encoding=encoding)
    assert [clip.speaker for clip in read_manifest(path)] == ["x/José", "x/2"]


def test_latin_1_is_refused_with_its_line_and_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(HEADER + "a.wav,x,José,train,1\n", encoding="latin-1")
    with pytest.raises(ManifestError, match=r"line 2 is not utf-8.*iconv -f LATIN1"):
        read_manifest(path)


@pytest.mark.parametrize("row", [",x,1,train,1", "b.wav,x, ,train,1"])
def test_a_blank_path_or_speaker_is_an_error(tmp_path: Path, row: str) -> None:
    with pytest.raises(ManifestError, match=r"line 3 leaves the (path|speaker) blank"):
        read_manifest(write(tmp_path, f"a.wav,x,1,train,1\n{row}\n"))


def test_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no column speaker, split"):
        read_manifest(write(tmp_path, "", header="path,corpus\n"))


def test_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read"):
        read_manifest(tmp_path / "none.csv")


def test_short_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="line 3"):
        read_manifest(write(tmp_path, "a.wav,x,1,train,1\nb.wav,x\n"))


def test_unreadable_files_are_listed_and_left_out(tmp_path: Path) -> None:
    tone = (3000 * np.sin(np.arange(8000) * 0.1)).astype(np.int16)
    stereo = np.stack([tone, np.zeros_like(tone)], axis=1)
    soundfile.write(tmp_path / "good.wav", tone, 16000)
    soundfile.write(tmp_path / "slow.flac", tone, 8000)
    soundfile.write(tmp_path / "stereo.wav", stereo, 16000)
    soundfile.write(tmp_path / "empty.wav", tone[:0], 16000)
    (tmp_path / "broken.opus").write_bytes(b"no audio at all")
    soundfile.write(tmp_path / "silent.wav", 0 * tone, 16000)
    names = ["good.wav", "broken.opus", "slow.flac", "absent.wav", "stereo.wav", "empty.wav"]
    names.append("silent.wav")
    clips = [Clip(tmp_path / name, "x", f"x/{name}") for name in names]
    done: list[None] = []
    library = load_clips(clips, 16000, advance=lambda: done.append(None))
    assert [clip.path.name for clip in library.clips] == ["good.wav", "slow.flac", "stereo.wav"]
    left_out = [error.path.name for error in library.unreadable]
    assert left_out == ["broken.opus", "absent.wav", "empty.wav", "silent.wav"]
    assert len(done) == len(names)
    good, slow, mixed = library.audio
    assert np.array_equal(good, tone)
    assert slow.dtype == np.int16
    assert abs(slow.size - 16000) <= 2
    assert np.abs(mixed - tone // 2).max() <= 1


def test_no_readable_audio_is_an_error(tmp_path: Path) -> None:
    clips = [Clip(tmp_path / f"{i}.wav", "x", f"x/{i}") for i in range(3)]
    with pytest.raises(ManifestError, match="readable audio"):
        load_clips(clips, 16000)


def test_digest_changes_with_the_audio_and_the_speaker(corpus: Path) -> None:
    library = load_clips(read_manifest(corpus)[:8], 16000)
    assert library.digest() == library.of(range(8)).digest()
    assert library.digest() != library.of(range(7)).digest()
    louder = Library(library.clips, (library.audio[0] * 2, *library.audio[1:]))
    assert louder.digest() != library.digest()


def test_hold_out_splits_speakers_stably() -> None:
    clips = [Clip(Path(f"{i}.wav"), "x", f"x/{i // 3}") for i in range(3000)]
    learned, held_out = hold_out(clips, 0.1)
    assert sorted(learned + held_out) == list(range(3000))
    learned_speakers = {clips[i].speaker for i in learned}
    held_out_speakers = {clips[i].speaker for i in held_out}
    assert not learned_speakers & held_out_speakers
    assert 70 < len(held_out_speakers) < 130
    fewer = [clips[i].speaker for i in hold_out(clips[:1500], 0.1)[1]]
    assert set(fewer) == held_out_speakers & {clip.speaker for clip in clips[:1500]}


def test_hold_out_of_too_few_speakers_is_an_error() -> None:
    clips = [Clip(Path("a.wav"), "x", f"x/{i}") for i in range(3)]
    with pytest.raises(ManifestError, match="validation"):
        hold_out(clips, 1e-9)


def test_noise_folder(corpus: Path, tmp_path: Path) -> None:
    assert len(load_noises(corpus.parent, 16000)) == 96
    with pytest.raises(ManifestError, match="noise folder"):
        load_noises(tmp_path, 16000)
    (tmp_path / "rain.wav").write_bytes(b"no audio")
    with pytest.raises(ManifestError, match=r"rain\.wav"):
        load_noises(tmp_path, 16000)


def test_the_session_is_read_where_there_is_one(tmp_path: Path) -> None:
    header = "path,corpus,speaker,split,session\n"
    rows = "a.wav,x,1,train,monday\nb.wav,x,2,train,\n"
    clips = read_manifest(write(tmp_path, rows, header))
    assert [clip.session for clip in clips] == ["monday", ""]
