"""The sample corpus: its manifest, its splits, and that it is the same every time."""

from pathlib import Path

import soundfile

from demo.make_corpus import SPEEDS, make_corpus
from training.data import manifest


def test_no_speaker_is_in_both_splits_and_every_clip_is_there(tmp_path: Path) -> None:
    rows = manifest.read(make_corpus(tmp_path))
    speakers = {
        split: {row.speaker for row in rows if row.split == split} for split in ("train", "dev")
    }
    assert len(speakers["train"] | speakers["dev"]) == 4 * len(SPEEDS)
    assert not speakers["train"] & speakers["dev"]
    assert {soundfile.info(row.path).samplerate for row in rows} == {16_000}
    assert {row.session for row in rows} >= {"enroll-1", "verify-2"}


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = (make_corpus(tmp_path / name) for name in ("first", "second"))
    assert first.read_text() == second.read_text()
    clip = manifest.read(first)[7].path.relative_to(first.parent)
    assert (first.parent / clip).read_bytes() == (second.parent / clip).read_bytes()
