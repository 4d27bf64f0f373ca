"""Other systems' scores: evaluated like our own, and two reports set against each other."""

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
    """A score file's assessment and document; `known` is a manifest for speakers and labels, and
    `columns` names the file's, as in `scorefiles.read`."""
    clips = {} if known is None else {clip.name: clip for clip in manifest.read(known)}
    read = score_files.read(path, listed, clips, columns=columns)
    nothing = np.zeros(len(read.scores))
    scored = ScoredTrials(
        read.trials, Measures(read.scores, nothing, nothing, nothing), 0, 0.0, 0.0
    )
    judged = assessment.assess(
        path.name, scored, _digest(read), terms=TERMS, replicates=replicates, seed=seed
    )
    head = document.make_head(seed, replicates, str(path), f"those of {(listed or path).name}")
    told = {
        **head,
        "systems": [document.describe_system(judged)],
        **document.describe_details(judged, replicates=replicates, seed=seed),
        "contract": None,
    }
    return judged, told


def compare(first: Path, second: Path, *, replicates: int, seed: int) -> Document:
    """Two reports' figures and, on the trials that both scored, the paired differences."""
    documents = [document.read(path) for path in (first, second)]
    systems = [
        {**told["systems"][0], "name": f"{side}: {told['systems'][0]['system']} ({path.parent})"}
        for side, told, path in zip("AB", documents, (first, second), strict=True)
    ]
    one, other = (
        score_files.read(path.parent / told["scores"])
        for path, told in zip((first, second), documents, strict=True)
    )
    rows = _shared(one, other)
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
    told = (
        f"Paired on the {len(shared):,} trials that both scored (A has {len(one.trials):,},"
        f" B {len(other.trials):,}); {replicates} draws of speakers and their clips. Lower is"
        " better."
    )
    return {
        **document.make_head(seed, replicates, f"{first}, {second}", "those that both scored"),
        "told": told,
        "systems": systems,
        "differences": {
            name: {**asdict(held), "verdict": held.verdict} for name, held in differences.items()
        },
    }


def _shared(one: ScoreFile, other: ScoreFile) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Rows of the trials that both files hold, in the same order; None when there are none."""
    ids: dict[str, int] = {}
    _, own, others = np.intersect1d(
        _keys(one.trials, ids), _keys(other.trials, ids), assume_unique=True, return_indices=True
    )
    if not len(own):
        return None
    if np.any(one.trials.target[own] != other.trials.target[others]):
        raise EvaluationError("the two reports disagree on which trials are targets")
    return own, others


def _keys(trials: Trials, ids: dict[str, int]) -> NDArray[np.int64]:
    """One number for each trial (n,), the same for the same names on both sides."""
    models = [ids.setdefault(model.name, len(ids)) for model in trials.models]
    clips = [ids.setdefault(clip.name, len(ids)) for clip in trials.clips]
    enrol = np.array(models, np.int64)[trials.enrol]
    return enrol * (1 << 31) + np.array(clips, np.int64)[trials.test]


def _digest(read: ScoreFile) -> str:
    digest = hashlib.sha256()
    for model in read.trials.models:
        digest.update(model.name.encode() + b"\n")
    for clip in read.trials.clips:
        digest.update(clip.name.encode() + b"\n")
    for column in (read.trials.enrol, read.trials.test, read.trials.target):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
