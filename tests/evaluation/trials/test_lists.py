"""Lists, enrollment maps and score files of other tools, good and bad."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.errors import EvaluationError, ListError
from evaluation.trials import lists, manifest, score_files
from evaluation.trials.manifest import Clip, Speaker
from evaluation.trials.trials import Trials


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).touch()
    return tmp_path


def read_list(folder: Path, text: str, models: dict[str, tuple[str, ...]] | None = None) -> Trials:
    path = folder / "list.txt"
    path.write_text(text)
    listed = lists.read(path)
    return lists.make_trials(
        path, listed, lists.make_clips(path, listed, models, audio=folder), models
    )


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
        "a.wav b.wav 1\na.wav c.wav 0\nb.wav c.wav 0\n",
        "a.wav b.wav tgt\na.wav c.wav imp\nb.wav c.wav imp\n",
        "label,enrol,test\n1,a.wav,b.wav\n0,a.wav,c.wav\n0,b.wav,c.wav\n",
        '"a.wav","b.wav",target\r\n"a.wav","c.wav",nontarget\r\n"b.wav","c.wav",nontarget\r\n',
        "1,a.wav,b.wav\n0,a.wav,c.wav\n0,b.wav,c.wav\n",
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
        ("a.wav b.wav target\na.wav c.wav stranger\n", ":2: expected target or nontarget"),
        ("a.wav b.wav 0.7\n", ":1: expected"),
        ("1 a.wav b.wav\n0 a.wav z.wav\n", r":2: .*z\.wav is missing"),
        ("1 a.wav b.wav\n0 a.wav c.wav\n1 a.wav b.wav\n", ":3: the same trial is on line 1"),
        ("modelid segmentid\na.wav b.wav\n", ":1: there is no column 'targettype'"),
        ("modelid segmentid targettype\na.wav b.wav\n", ":2: expected 3 columns, found 2"),
        ("modelid segmentid targettype\na.wav b.wav yes\n", ":2: expected target or nontarget"),
        ("1 a.wav b.wav\n0 a.wav b.wav\n", ":2: .*labeled nontarget, and on line 1 target"),
        ("1 a.wav b.wav\n0 b.wav a.wav\n", ":2: .*labeled nontarget, and on line 1 target"),
        (
            "1 a.wav b.wav\n1 b.wav c.wav\n0 a.wav c.wav\n",
            r":3: labeled nontarget, but target trials make .* one speaker's, see line 1",
        ),
        ("1 0 1\n0 1 0\n", ":1: the label may be the first column or the last"),
        ("a,b\n", ":1: expected"),
        ("enrol,test\na.wav,b.wav\n", ":1: there is no column 'targettype', or 'label'"),
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
    known = {"a.wav": Clip("a.wav", folder / "a.wav", Speaker("", "s"))}
    with pytest.raises(ListError, match=r":1: c\.wav is not a known clip"):
        lists.make_trials(path, lists.read(path), known)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="No such file"):
        lists.read(tmp_path / "none.txt")


@pytest.mark.parametrize("text", ["m1 a.wav b.wav\nm2 c.wav\n", "m1 a.wav\nm2 c.wav\nm1 b.wav\n"])
def test_models_of_several_clips(folder: Path, text: str) -> None:
    path = folder / "map.txt"
    path.write_text(text)
    models = lists.read_enrollments(path)
    assert models == {"m1": ("a.wav", "b.wav"), "m2": ("c.wav",)}
    asked = read_list(folder, "m1 a.wav target\nm2 a.wav nontarget\n", models)
    held = {model.name: [asked.clips[clip].name for clip in model.clips] for model in asked.models}
    assert held == {"m1": ["a.wav", "b.wav"], "m2": ["c.wav"]}
    with pytest.raises(ListError, match=":2: m3 is not in the enrollment map"):
        read_list(folder, "m1 a.wav target\nm3 a.wav nontarget\n", models)


@pytest.mark.parametrize(
    ("text", "said"), [("m1 a.wav\nm1\n", ":2: expected"), ("m1 a.wav a.wav\n", ":1: .*twice")]
)
def test_a_bad_enrolment_map(folder: Path, text: str, said: str) -> None:
    path = folder / "map.txt"
    path.write_text(text)
    with pytest.raises(ListError, match=said):
        lists.read_enrollments(path)


LIST = "1 a b\n0 a c\n"


def read_scores(
    folder: Path, text: str, truth: str | None, columns: str | None = None
) -> score_files.ScoreFile:
    path, listed = folder / "scores.txt", folder / "list.txt"
    path.write_text(text)
    if truth is not None:
        listed.write_text(truth)
    return score_files.read(path, None if truth is None else listed, columns=columns)


def test_scores_with_a_list_in_any_order_and_on_their_own(folder: Path) -> None:
    told = read_scores(folder, "a c -1e-2\na b 3\n", LIST)
    alone = read_scores(folder, "a c nontarget -1e-2\na b target 3\n", None)
    ours = read_scores(folder, "a c nontarget -1e-2 7\na b target 3 9\n", None)
    for read in (told, alone, ours):
        assert named(read.trials) == {("a", "b", True), ("a", "c", False)}
        assert list(read.scores) == [-0.01, 3]


@pytest.mark.parametrize(
    ("text", "truth", "columns"),
    [
        ("a c 0 0.25\na b 1 0.5\n", LIST, None),
        ("a c 0 0.25\na b 1 0.5\n", None, None),
        ("a c 0.25 nontarget\na b 0.5 target\n", None, None),
        ("enrol,test,score,label\na,c,0.25,0\na,b,0.5,1\n", None, None),
        ("0.25 a c 9 0\n0.5 a b 9 1\n", None, "score,enrol,test,-,label"),
    ],
)
def test_no_label_is_taken_for_a_score(
    folder: Path, text: str, truth: str | None, columns: str | None
) -> None:
    """SpeechBrain's, WeSpeaker's and other layouts: a label once gave an EER of 0%."""
    read = read_scores(folder, text, truth, columns)
    assert named(read.trials) == {("a", "b", True), ("a", "c", False)}
    assert list(read.scores) == [0.25, 0.5]


@pytest.mark.parametrize("columns", ["enrol,test", "enrol,test,score,what", "enrol,enrol,score"])
def test_columns_that_are_not_a_layout(folder: Path, columns: str) -> None:
    with pytest.raises(EvaluationError, match="expected each of enrol, test, score"):
        read_scores(folder, "a b 1\n", LIST, columns)


def test_compressed_scores(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "s.gz", "wt") as stream:
        stream.write("a c nontarget 1\na b target 3\n")
    assert list(score_files.read(tmp_path / "s.gz").scores) == [1, 3]


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
        ("a b 1 7\na c 0 8.5\n", LIST + "0 a d\n", r"list\.txt:3: a d has no score"),
        ("a b 1 7 2\na c 0 8 2\n", LIST, r"scores\.txt:1: expected"),
        ("a b 3.5 7\na c 0.5 8\n", LIST, r"scores\.txt:1: expected"),
        ("a b 0 7\na c 1 8.5\n", LIST, r"scores\.txt:1: a b is labeled otherwise on line 1 of"),
        ("a b target 3\nb a nontarget 1\n", None, r"scores\.txt:2: .*on line 1 target"),
        ("a b 1\n", None, r"scores\.txt:1: .*give the trial list"),
        ("", None, "no trial in it"),
    ],
)
def test_a_bad_score_file_is_told_by_line(
    folder: Path, text: str, truth: str | None, said: str
) -> None:
    with pytest.raises(EvaluationError, match=said):
        read_scores(folder, text, truth)


def test_a_list_that_contradicts_the_manifest(folder: Path) -> None:
    known = {
        name: Clip(name, folder / name, Speaker("x", speaker), {}, line)
        for line, (name, speaker) in enumerate({"a": "s", "b": "s", "c": "t"}.items(), start=2)
    }
    path = folder / "list.txt"
    for text, said in {
        "1 a b\n1 a c\n0 b c\n": r":2: labeled target, but a is of speaker x/s"
        r" \(line 2 of the manifest\) and c is of speaker x/t \(line 4 of the manifest\)",
        "0 a c\n0 a b\n1 b a\n": ":3: .*labeled target, and on line 2 nontarget",
        "1 a b\n0 b b\n": ":2: labeled nontarget",
    }.items():
        path.write_text(text)
        with pytest.raises(ListError, match=said):
            lists.make_trials(path, lists.read(path), known)
    path.write_text("m a target\nm c nontarget\n")
    with pytest.raises(EvaluationError, match=r"m is made of several speakers: b is .* c is"):
        lists.make_trials(path, lists.read(path), known, {"m": ("b", "c")})


def test_scores_that_contradict_the_manifest(folder: Path) -> None:
    """A model's name is not in it: its clips' speaker is that of its target trials."""
    known = {
        name: Clip(name, folder / name, Speaker("x", name[0]), {}, line)
        for line, name in enumerate(("s1", "s2", "t1"), start=2)
    }
    path = folder / "scores.txt"
    path.write_text("m s1 target 1\nm t1 nontarget 0\n")
    read = score_files.read(path, known=known)
    assert {str(clip.speaker) for clip in read.trials.clips} == {"x/s", "x/t"}
    path.write_text("m s1 target 1\nm s2 nontarget 0\n")
    with pytest.raises(ListError, match=":2: labeled nontarget"):
        score_files.read(path, known=known)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_reader_knows_the_encodings_that_tools_write(folder: Path, encoding: str) -> None:
    (folder / "é.wav").touch()
    (folder / "l").write_text("1 é.wav a.wav\n0 é.wav b.wav\n", encoding=encoding)
    (folder / "m").write_text("é é.wav\n", encoding=encoding)
    (folder / "s").write_text("é.wav a.wav 1 3\né.wav b.wav 0 2\n", encoding=encoding)
    (folder / "m.csv").write_text("path,speaker\né.wav,é\n", encoding=encoding)
    assert lists.read(folder / "l").models == ("é.wav",)
    assert lists.read_enrollments(folder / "m") == {"é": ("é.wav",)}
    assert score_files.read(folder / "s").trials.models[0].name == "é.wav"
    assert manifest.read(folder / "m.csv")[0].speaker == Speaker("", "é")


HEADS = {
    lists.read: b"1 a b\n",
    score_files.read: b"a b 3\n",
    lists.read_enrollments: b"m a\n",
    manifest.read: b"path,speaker\n",
}


@pytest.mark.parametrize(
    "reader", HEADS, ids=lambda reader: f"{reader.__module__}.{reader.__name__}"
)
def test_other_bytes_are_told_and_no_traceback(folder: Path, reader: Callable) -> None:
    head = HEADS[reader]
    path, packed = folder / "x", folder / "x.gz"
    path.write_bytes(head + b"0 a.wav \xe9.wav\n")
    with pytest.raises(ListError, match=r":2: is neither UTF-8 nor .*iconv -f latin1"):
        reader(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ListError, match=":1: is neither"):
        reader(path)
    for damaged in (gzip.compress(head)[:-9], b"not gzip"):
        packed.write_bytes(damaged)
        with pytest.raises(EvaluationError, match="damaged"):
            reader(packed)
