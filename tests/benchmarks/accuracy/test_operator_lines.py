"""Simulated operators: every call over the same line."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.accuracy.operator_lines import LINES, Callers, make_operator
from evaluation.tuning import line, recordings

CALLERS = Callers("made", ("dev",), speakers=2, clips=2, others=3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A corpus of noise: three dev speakers, of whom one has too few clips, and four to train."""
    rows = ["path,corpus,speaker,split"]
    rng = np.random.default_rng(0)
    clips = {"dev": {"a": 3, "b": 2, "c": 1}, "train": dict.fromkeys("defg", 2)}
    for split, speakers in clips.items():
        for speaker, count in speakers.items():
            for take in range(count):
                name = f"{speaker}{take}.wav"
                soundfile.write(tmp_path / name, 0.1 * rng.normal(size=16_000), 16_000)
                rows.append(f"{name},made,{speaker},{split}")
    (tmp_path / "corpus.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "corpus.csv"


@pytest.mark.parametrize("name", LINES)
async def test_every_call_is_narrow_and_some_are_unlabelled(name: str, data: Path) -> None:
    manifest = make_operator(data, CALLERS, name, data.parent / name)
    found = recordings.read(manifest)
    assert sorted(clip.speaker.name for clip in found.labelled) == ["a", "a", "b", "b"]
    assert len(found.unlabelled) == 3
    labelled, bands, unreadable = await line.label_bands(found)
    assert {clip.labels["band"] for clip in labelled.clips} == {"narrow"}
    assert bands.shape == (7, 2)
    assert not unreadable


def test_the_same_seed_makes_the_same_calls(data: Path) -> None:
    first, second = (make_operator(data, CALLERS, "mobile", data.parent / name) for name in "xy")
    assert first.read_text() == second.read_text()
    with first.open(newline="") as rows:
        name = next(csv.DictReader(rows))["path"]
    one, other = (soundfile.read(path.parent / name)[0] for path in (first, second))
    assert (one == other).all()
    more = replace(CALLERS, others=4)
    assert make_operator(data, more, "mobile", data.parent / "x").read_text() == first.read_text()
