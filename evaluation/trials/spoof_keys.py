"""Keys of spoofing corpora: which clips are bona fide, and by what attack the others were made.

    LA_0079 LA_T_1138215 - A01 spoof                         ASVspoof 2019, cm_protocols
    LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval   ASVspoof 2021 LA, DF: trial_metadata
    E_4850 E_0000000000 F C05 2 - AC1 A17 spoof -            ASVspoof 5, track 1
    file,speaker,label                                       In-the-Wild, meta.csv
    path,corpus,speaker,split,attack,...                     `sayso-train spoofs`

In the first three, the truth is the word `bonafide` or `spoof`, and the attack stands before it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.errors import EvaluationError, ListError
from evaluation.trials import text

BONA_FIDE, SPOOF = "bonafide", "spoof"
UNNAMED = ("-", "")
TARGET, NONTARGET = "target", "nontarget"
TANDEM_CLASSES = (TARGET, NONTARGET, SPOOF)


@dataclass(frozen=True, slots=True)
class KeyedClip:
    """A clip by its name in score files; `attack` is None if it is bona fide."""

    name: str
    speaker: str
    attack: str | None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def bona_fide(self) -> bool:
        return self.attack is None


def read(path: Path, split: str | None = None) -> tuple[KeyedClip, ...]:
    """Read a key of any of the layouts, of one `split` where the layout has splits.

    Raises ListError on a line of none of them, EvaluationError if a class is missing.
    """
    lines = [line.rstrip("\r\n") for line in text.read_lines(path)]
    header = lines[0].lstrip("﻿") if lines else ""
    clips = tuple(_read_table(path, lines, split) if "," in header else _read_words(path, lines))
    if len({clip.bona_fide for clip in clips}) < 2:
        raise EvaluationError(f"{path}: it takes bona fide and spoofed clips, {len(clips)} read")
    return clips


def read_scores(path: Path) -> dict[str, float]:
    """Read lines `clip score`, or lines of a key with the score at their end.

    Higher means bona fide. Raises ListError on a line that has no finite number, or names a clip
    again.
    """
    scores: dict[str, float] = {}
    for number, line in enumerate(text.read_lines(path), start=1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        if len(fields) < 2:
            raise ListError(path, number, "expected `clip score`")
        name = fields[0] if len(fields) == 2 else fields[1]
        if name in scores:
            raise ListError(path, number, f"{name} has a score already")
        scores[name] = _parse_score(path, number, fields[-1])
    return scores


@dataclass(frozen=True, slots=True)
class Comparison:
    """A verification trial: the clip, whom it claims to be, the truth and the score."""

    claimed: str
    name: str
    truth: str
    score: float


def read_comparisons(path: Path) -> tuple[Comparison, ...]:
    """Read lines `claimed clip ... target|nontarget|spoof score`, as ASVspoof's ASV trials with a
    score at the end. Raises ListError on another line."""
    trials = []
    for number, line in enumerate(text.read_lines(path), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 4 or not set(fields) & set(TANDEM_CLASSES):
            raise ListError(path, number, "expected `claimed clip target|nontarget|spoof score`")
        truth = next(word for word in reversed(fields[2:]) if word in TANDEM_CLASSES)
        score = _parse_score(path, number, fields[-1])
        trials.append(Comparison(fields[0], fields[1], truth, score))
    return tuple(trials)


def _read_words(path: Path, lines: list[str]) -> Iterator[KeyedClip]:
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        # ASVspoof 2021 writes `bonafide` for the attack of a bona fide clip, too
        truth = max((p for p, word in enumerate(fields) if word in (BONA_FIDE, SPOOF)), default=0)
        if truth < 3:
            raise ListError(path, number, "is of no known key: there is no `bonafide` or `spoof`")
        attack = fields[truth - 1]
        named = attack if attack not in UNNAMED else SPOOF
        yield KeyedClip(fields[1], fields[0], named if fields[truth] == SPOOF else None)


def _read_table(path: Path, lines: list[str], split: str | None) -> Iterator[KeyedClip]:
    reader = csv.DictReader(lines)
    columns = {name.strip().lower(): name for name in reader.fieldnames or []}
    name, truth = (
        columns.get("path", columns.get("file")),
        columns.get("attack", columns.get("label")),
    )
    if name is None or truth is None or "speaker" not in columns:
        raise ListError(
            path, 1, "expected the columns file, speaker, label or path, speaker, attack"
        )
    for row in reader:
        if split and "split" in columns and row[columns["split"]] != split:
            continue
        said = (row[truth] or "").strip()
        if not said:
            raise ListError(path, reader.line_num, f"{truth} is empty")
        genuine = said.replace("-", "") == BONA_FIDE
        speaker = "/".join(row[columns[c]] for c in ("corpus", "speaker") if c in columns)
        labels = {key: value or "" for key, value in row.items() if key not in (name, truth)}
        yield KeyedClip(row[name], speaker, None if genuine else said, labels)


def _parse_score(path: Path, line: int, word: str) -> float:
    try:
        score = float(word)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise ListError(path, line, f"{word!r} is no finite score")
    return score
