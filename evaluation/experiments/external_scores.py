"""Scores of other systems, evaluated like our own, and two reports compared."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.metrics import comparison
from evaluation.report import assessment, document
from evaluation.report.assessment import Assessment
from evaluation.report.document import Document
from evaluation.scoring.measures import Measures
from evaluation.scoring.scores import ScoredTrials
from evaluation.trials import manifest, score_files
from evaluation.trials.score_files import ScoreFile
from evaluation.trials.trials import Trials

TERMS = ("cosine",)


def assess(
    path: Path,
    *,
    listed: Path | None,
    known: Path | None,
    columns: str | None,
    replicates: int,
    seed: int,
) -> tuple[Assessment, Document]:
    """Assess a score file, and describe it in a document.

    `listed` is a trial list with the truth, `known` a manifest with speakers and labels, and
    `columns` names the columns of the file, as in `score_files.read`.
    """
    clips = {} if known is None else {clip.name: clip for clip in manifest.read(known)}
    file = score_files.read(path, listed, clips, columns=columns)
    unknown = np.zeros(len(file.scores))
    scored = ScoredTrials(
        file.trials, Measures(file.scores, unknown, unknown, unknown), 0, 0.0, 0.0
    )
    assessed = assessment.assess(
        path.name, scored, _hash_trials(file), terms=TERMS, replicates=replicates, seed=seed
    )
    head = document.make_head(seed, replicates, str(path), f"those of {(listed or path).name}")
    described = {
        **head,
        "systems": [document.describe_system(assessed)],
        **document.describe_details(assessed, replicates=replicates, seed=seed),
        "contract": None,
    }
    return assessed, described


def compare(first: Path, second: Path, *, replicates: int, seed: int) -> Document:
    """Put two reports side by side and compare the systems on the trials that both scored.

    Raises EvaluationError when there is none, or when the reports disagree on which are targets.
    """
    documents = [document.read(path) for path in (first, second)]
    systems = [
        {
            **report["systems"][0],
            "name": f"{side}: {report['systems'][0]['system']} ({path.parent})",
        }
        for side, report, path in zip("AB", documents, (first, second), strict=True)
    ]
    one, other = (
        score_files.read(path.parent / report["scores"])
        for path, report in zip((first, second), documents, strict=True)
    )
    rows = _match_trials(one, other)
    if rows is None:
        raise EvaluationError(f"{first} and {second} have no trial in common")
    shared = one.trials.select(rows[0])
    differences = comparison.compare(
        one.scores[rows[0]],
        other.scores[rows[1]],
        shared.target,
        shared.sides(),
        replicates=replicates,
        seed=seed,
    )
    description = (
        f"Paired on the {len(shared):,} trials that both scored (A has {len(one.trials):,},"
        f" B {len(other.trials):,}); {replicates} draws of speakers and their clips. Lower is"
        " better."
    )
    return {
        **document.make_head(seed, replicates, f"{first}, {second}", "those that both scored"),
        "told": description,
        "systems": systems,
        "differences": {
            name: {**asdict(difference), "verdict": difference.verdict}
            for name, difference in differences.items()
        },
    }


def _match_trials(
    one: ScoreFile, other: ScoreFile
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Rows of the trials that both files hold, in the same order; None if there is none."""
    ids: dict[str, int] = {}
    _, own, others = np.intersect1d(
        _number_trials(one.trials, ids),
        _number_trials(other.trials, ids),
        assume_unique=True,
        return_indices=True,
    )
    if not len(own):
        return None
    if np.any(one.trials.target[own] != other.trials.target[others]):
        raise EvaluationError("the two reports disagree on which trials are targets")
    return own, others


def _number_trials(trials: Trials, ids: dict[str, int]) -> NDArray[np.int64]:
    """One number for each trial (n,), the same for the same names on both sides."""
    models = [ids.setdefault(model.name, len(ids)) for model in trials.models]
    clips = [ids.setdefault(clip.name, len(ids)) for clip in trials.clips]
    enrol = np.array(models, np.int64)[trials.enrol]
    return enrol * (1 << 31) + np.array(clips, np.int64)[trials.test]


def _hash_trials(file: ScoreFile) -> str:
    digest = hashlib.sha256()
    for model in file.trials.models:
        digest.update(model.name.encode() + b"\n")
    for clip in file.trials.clips:
        digest.update(clip.name.encode() + b"\n")
    for column in (file.trials.enrol, file.trials.test, file.trials.target):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
