"""Lists, enrolment maps and score files of other tools, good and bad."""

import gzip
from pathlib import Path

import pytest

from evaluation import lists, scorefiles
from evaluation.errors import EvaluationError, ListError
from evaluation.manifest import Clip
from evaluation.trials import Trials


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).touch()
    return tmp_path


def read_list(folder: Path, text: str, models: dict[str, tuple[str, ...]] | None = None) -> Trials:
    path = folder / "list.txt"
    path.write_text(text)
    lines = list(lists.read(path))
    return lists.trials(path, lines, lists.unlisted(path, lines, models, audio=folder), models)


def named(asked: Trials) -> set[tuple[str, str, bool]]:
    sides = zip(asked.enrol, asked.test, asked.target, strict=True)
    return {(asked.models[e].name, asked.clips[t].name, bool(same)) for e, t, same in sides}


@pytest.mark.parametrize(
    "text",
    [
        "1 a.wav b.wav\n0 a.wav c.wav\n\n0 b.wav c.wav\n",
        "a.wav b.wav target\na.wav c.wav nontarget\nb.wav c.wav nontarget",
        "segmentid side modelid targettype\nb.wav x a.wav target\n"
        "c.wav x a.wav nontarget\nc.wav x b.wav imp\n",
    ],
)
def test_every_format_with_speakers_from_its_targets(folder: Path, text: str) -> None:
    asked = read_list(folder, text)
    assert named(asked) == {
        ("a.wav", "b.wav", True),
        ("a.wav", "c.wav", False),
        ("b.wav", "c.wav", False),
    }
    speaker = {clip.name: clip.speaker for clip in asked.clips}
    assert speaker["a.wav"] == speaker["b.wav"] != speaker["c.wav"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 a.wav b.wav\n2 a.wav c.wav\n", ":2: expected"),
        ("1 a.wav b.wav\n0 a.wav\n", ":2: expected"),
        ("a.wav b.wav target\na.wav c.wav impostor\n", ":2: expected"),
        ("a.wav b.wav 0.7\n", ":1: expected"),
        ("1 a.wav b.wav\n0 a.wav z.wav\n", r":2: .*z\.wav is missing"),
        ("1 a.wav b.wav\n0 a.wav c.wav\n1 a.wav b.wav\n", ":3: the same trial is on line 1"),
        ("modelid segmentid\na.wav b.wav\n", ":1: there is no column 'targettype'"),
        ("modelid segmentid targettype\na.wav b.wav\n", ":2: expected 3 columns, found 2"),
        ("modelid segmentid targettype\na.wav b.wav yes\n", ":2: 'yes' is neither"),
        ("1 a.wav b.wav\n", "no non-target trial"),
        ("0 a.wav c.wav\n", "no target trial"),
        ("", "no trial in it"),
    ],
)
def test_a_bad_list_is_told_by_line(folder: Path, text: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        read_list(folder, text)


def test_names_that_the_manifest_does_not_have(folder: Path) -> None:
    path = folder / "list.txt"
    path.write_text("1 a.wav c.wav\n")
    known = {"a.wav": Clip("a.wav", folder / "a.wav", "s")}
    with pytest.raises(ListError, match=r":1: c\.wav is not a known clip"):
        lists.trials(path, lists.read(path), known)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="No such file"):
        lists.read(tmp_path / "none.txt")


@pytest.mark.parametrize("text", ["m1 a.wav b.wav\nm2 c.wav\n", "m1 a.wav\nm2 c.wav\nm1 b.wav\n"])
def test_models_of_several_clips(folder: Path, text: str) -> None:
    path = folder / "map.txt"
    path.write_text(text)
    models = lists.enrolments(path)
    assert models == {"m1": ("a.wav", "b.wav"), "m2": ("c.wav",)}
    asked = read_list(folder, "m1 a.wav target\nm2 a.wav nontarget\n", models)
    held = {model.name: [asked.clips[clip].name for clip in model.clips] for model in asked.models}
    assert held == {"m1": ["a.wav", "b.wav"], "m2": ["c.wav"]}
    with pytest.raises(ListError, match=":2: m3 is not in the enrolment map"):
        read_list(folder, "m1 a.wav target\nm3 a.wav nontarget\n", models)


@pytest.mark.parametrize(
    ("text", "said"), [("m1 a.wav\nm1\n", ":2: expected"), ("m1 a.wav a.wav\n", ":1: .*twice")]
)
def test_a_bad_enrolment_map(folder: Path, text: str, said: str) -> None:
    path = folder / "map.txt"
    path.write_text(text)
    with pytest.raises(ListError, match=said):
        lists.enrolments(path)


LIST = "1 a b\n0 a c\n"


def read_scores(folder: Path, text: str, truth: str | None) -> scorefiles.ScoreFile:
    path, listed = folder / "scores.txt", folder / "list.txt"
    path.write_text(text)
    if truth is not None:
        listed.write_text(truth)
    return scorefiles.read(path, None if truth is None else listed)


def test_scores_with_a_list_in_any_order_and_on_their_own(folder: Path) -> None:
    told = read_scores(folder, "a c -1e-2\na b 3\n", LIST)
    alone = read_scores(folder, "a c nontarget -1e-2 extra\na b target 3 9\n", None)
    for read in (told, alone):
        assert named(read.trials) == {("a", "b", True), ("a", "c", False)}
        assert list(read.scores) == [-0.01, 3]


def test_compressed_scores(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "s.gz", "wt") as stream:
        stream.write("a c nontarget 1\na b target 3\n")
    assert list(scorefiles.read(tmp_path / "s.gz").scores) == [1, 3]


@pytest.mark.parametrize(
    ("text", "truth", "said"),
    [
        ("a b 1\na c nan\n", LIST, r"scores\.txt:2: the score is nan"),
        ("a b 1\na c inf\n", LIST, r"scores\.txt:2: the score is inf"),
        ("a b 1\na c high\n", LIST, r"scores\.txt:2: 'high' is not a number"),
        ("a b 1\n", LIST, r"list\.txt:2: a c has no score"),
        ("a b 1\na c 0\na d 1\n", LIST, r"scores\.txt:3: a d is not in the trial list"),
        ("a b 1\na c 0\na b 1\n", LIST, r"scores\.txt:3: the same trial is on line 1"),
        ("a b\n", LIST, r"scores\.txt:1: expected `enrol test score`"),
        ("a b 1\n", None, r"scores\.txt:1: .*give the trial list"),
        ("", None, "no score in it"),
    ],
)
def test_a_bad_score_file_is_told_by_line(
    folder: Path, text: str, truth: str | None, said: str
) -> None:
    with pytest.raises(EvaluationError, match=said):
        read_scores(folder, text, truth)
