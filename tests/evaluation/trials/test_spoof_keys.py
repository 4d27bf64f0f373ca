from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.errors import EvaluationError, ListError
from evaluation.trials import spoof_keys

# Lines in the published layouts, with clips and speakers made up.
LAYOUTS = {
    "2019 LA": ("LA_0069 LA_D_1 - - bonafide\nLA_0070 LA_D_2 - A04 spoof\n", "LA_D_", "A04"),
    "2019 PA": ("PA_0079 PA_D_1 aab - bonafide\nPA_0080 PA_D_2 aab CB spoof\n", "PA_D_", "CB"),
    "2021 LA": (
        "LA_0009 LA_E_1 alaw ita_tx bonafide bonafide notrim eval\n"
        "LA_0010 LA_E_2 alaw ita_tx A07 spoof notrim eval\n",
        "LA_E_",
        "A07",
    ),
    "2021 DF": (
        "LA_0023 DF_E_1 nocodec asvspoof bonafide bonafide notrim progress bonafide - - - -\n"
        "TEF2 DF_E_2 low_mp3 vcc2020 Task1-team20 spoof notrim eval neural_vocoder_nonautoreg"
        " Task1 team20 FF E\n",
        "DF_E_",
        "Task1-team20",
    ),
    "5": (
        "E_1607 E_1 F - - - - - bonafide -\nE_1608 E_2 M C05 2 E_9 AC2 A19 spoof -\n",
        "E_",
        "A19",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts(layout: str, tmp_path: Path) -> None:
    text, prefix, attack = LAYOUTS[layout]
    path = tmp_path / "key.txt"
    path.write_text(text)
    genuine, spoofed = spoof_keys.read(path)
    assert (genuine.name, genuine.attack, genuine.bona_fide) == (f"{prefix}1", None, True)
    assert (spoofed.name, spoofed.attack, spoofed.bona_fide) == (f"{prefix}2", attack, False)
    assert spoofed.speaker == text.splitlines()[1].split()[0]


def test_in_the_wild(tmp_path: Path) -> None:
    path = tmp_path / "meta.csv"
    path.write_text(
        "file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,Alec Guinness,bona-fide\n"
    )
    spoofed, genuine = spoof_keys.read(path)
    assert (spoofed.name, spoofed.speaker, spoofed.attack) == ("0.wav", "Alec Guinness", "spoof")
    assert genuine.bona_fide


def test_our_manifest_by_split_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(
        "path,corpus,speaker,split,attack,kind,language\n"
        "a.opus,c,s,dev,bonafide,bonafide,en\n"
        "b.opus,c,t,dev,codec2,vocoder,en\n"
        "c.opus,c,u,train,codec2,vocoder,en\n"
    )
    genuine, spoofed = spoof_keys.read(path, "dev")
    assert genuine.labels["language"] == "en"
    assert (spoofed.speaker, spoofed.attack) == ("c/t", "codec2")


def test_lines_of_no_known_key_are_named(tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    path.write_text("LA_0069 LA_D_1 - - bonafide\nLA_0069 LA_D_1 0.5\n")
    with pytest.raises(ListError, match=r"key[.]txt:2: is of no known key"):
        spoof_keys.read(path)
    path.write_text("LA_0069 LA_D_1 - - bonafide\n")
    with pytest.raises(EvaluationError, match="takes bona fide and spoofed"):
        spoof_keys.read(path)


def test_scores_alone_or_at_the_end_of_a_key(tmp_path: Path) -> None:
    path = tmp_path / "scores.txt"
    path.write_text("LA_E_1 -0.5\n\nLA_0009 LA_E_2 alaw ita_tx A07 spoof notrim eval 1.5\n")
    assert spoof_keys.read_scores(path) == {"LA_E_1": -0.5, "LA_E_2": 1.5}
    for line, problem in (
        ("LA_E_1 nan", "no finite"),
        ("LA_E_1 x", "no finite"),
        ("a", "expected"),
    ):
        path.write_text(f"{line}\n")
        with pytest.raises(ListError, match=problem):
            spoof_keys.read_scores(path)
    path.write_text("a 1\na 2\n")
    with pytest.raises(ListError, match=r"scores[.]txt:2: a has a score already"):
        spoof_keys.read_scores(path)


def test_comparisons(tmp_path: Path) -> None:
    path = tmp_path / "asv.txt"
    path.write_text(
        "LA_0015 LA_E_1 bonafide target 1.5\nLA_0015 LA_E_2 bonafide nontarget -1\n"
        "LA_0015 LA_E_3 A07 spoof 0.5\n"
    )
    trials = spoof_keys.read_comparisons(path)
    assert [(t.claimed, t.name, t.truth, t.score) for t in trials] == [
        ("LA_0015", "LA_E_1", "target", 1.5),
        ("LA_0015", "LA_E_2", "nontarget", -1.0),
        ("LA_0015", "LA_E_3", "spoof", 0.5),
    ]
    path.write_text("LA_0015 LA_E_1 1.5\n")
    with pytest.raises(ListError, match="expected `claimed clip"):
        spoof_keys.read_comparisons(path)
