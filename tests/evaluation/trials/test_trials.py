"""Trials from a manifest and from lists, and what is said of bad ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluation.errors import EvaluationError
from evaluation.trials import manifest, sampling, trials
from evaluation.trials.manifest import Clip, Speaker


def clips(*speakers: str, corpus: str = "") -> list[Clip]:
    return [
        Clip(f"{corpus}{n}", Path(f"{corpus}{n}"), Speaker(corpus, speaker))
        for n, speaker in enumerate(speakers)
    ]


def named(asked: trials.Trials) -> set[tuple[str, str, bool]]:
    sides = zip(asked.enrol, asked.test, asked.target, strict=True)
    return {(asked.models[e].name, asked.clips[t].name, bool(same)) for e, t, same in sides}


def test_all_pairs_once_within_a_corpus() -> None:
    asked = trials.make_pairs(
        [*clips("a", "a", "b", corpus="x"), *clips("a", "c", corpus="y")], limit=99
    )
    assert named(asked) == {
        ("x0", "x1", True),
        ("x0", "x2", False),
        ("x1", "x2", False),
        ("y0", "y1", False),
    }
    assert list(asked.corpus) == ["x", "x", "x", "y"]


def test_pairs_across_corpora_when_asked_for() -> None:
    made = [*clips("a", "a", corpus="x"), *clips("a", "c", corpus="y")]
    assert len(trials.make_pairs(made, limit=99, across_corpora=True)) == 6


def test_a_draw_is_seeded_distinct_and_true(world: Callable) -> None:
    made, _ = world(20, 10)
    asked = trials.make_pairs(made, limit=3000, seed=1)
    assert asked.target.sum() == 20 * 45
    assert 3000 - 5 <= len(asked) <= 3000
    assert len(set(zip(asked.enrol, asked.test, strict=True))) == len(asked)
    speakers = manifest.speaker_numbers(made)
    assert np.array_equal(speakers[asked.enrol] == speakers[asked.test], asked.target)
    assert np.array_equal(asked.test, trials.make_pairs(made, limit=3000, seed=1).test)
    assert not np.array_equal(asked.test, trials.make_pairs(made, limit=3000, seed=2).test)


@pytest.mark.parametrize("speakers", ["aa", "ab"])
def test_one_kind_of_trials_alone_is_refused(speakers: str) -> None:
    with pytest.raises(EvaluationError, match="there is no"):
        trials.make_pairs(clips(*speakers), limit=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).touch()
    (tmp_path / "m.csv").write_text(
        "path,speaker,split,gender\na.wav,s,dev,f\nb.wav,s,dev,f\nc.wav,t,train,m\n"
    )
    return tmp_path


def test_a_manifest_gives_clips_of_the_split_with_labels(folder: Path) -> None:
    read = manifest.read(folder / "m.csv", "dev")
    assert [clip.name for clip in read] == ["a.wav", "b.wav"]
    assert read[0].labels == {"gender": "f"}
    assert len(manifest.read(folder / "m.csv")) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("speaker\ns\n", ":1: there is no column 'path'"),
        ("path,speaker\na.wav,s\nz.wav,s\n", r":3: .*z\.wav is missing"),
        ("path,speaker\na.wav,s\na.wav,s\n", r":3: a\.wav is already on line 2"),
        ("path,speaker\na.wav,\n", ":2: path or speaker is empty"),
        ("path,speaker\n", "there is no clip"),
    ],
)
def test_a_bad_manifest_is_told_by_line(folder: Path, text: str, said: str) -> None:
    (folder / "m.csv").write_text(text)
    with pytest.raises(EvaluationError, match=said):
        manifest.read(folder / "m.csv")


def test_a_split_that_nobody_has(folder: Path) -> None:
    with pytest.raises(EvaluationError, match="split 'test'"):
        manifest.read(folder / "m.csv", "test")


def test_a_speaker_is_a_name_in_a_corpus() -> None:
    """Corpora number their speakers alike; taken for one person, 24.0% was an EER of 2.9%."""
    made = [*clips("1", "1", "2", corpus="x"), *clips("1", "1", "3", corpus="y")]
    asked = trials.make_pairs(made, limit=99, across_corpora=True)
    targets = {(enrol, test) for enrol, test, same in named(asked) if same}
    assert targets == {("x0", "x1"), ("y0", "y1")}
    assert len(np.unique(asked.sides().speaker)) == 4
    assert manifest.shared_speaker(made[:3], made[3:]) is None
    assert manifest.shared_speaker(made[:1], made[1:]) == Speaker("x", "1")
    assert len(sampling.sample_balanced(made, 4)) == 4
