"""One evaluation from end to end: trials, voices, scores, calibration, figures by group."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation import calibration, figures
from evaluation.bootstrap import Sides
from evaluation.embeddings import Voices
from evaluation.figures import Figures
from evaluation.scores import Scored
from evaluation.trials import Trials

Floats = NDArray[np.float64]

POOLED = "pooled"
TERMS = (
    "cosine",
    "log_enrol_speech",
    "log_test_speech",
    "cosine_log_enrol_speech",
    "cosine_log_test_speech",
    "snr",
)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What was measured of one system: `llr` (n,) is cross-validated, `groups` by name."""

    system: str
    scored: Scored
    llr: Floats | None
    groups: Mapping[str, Figures]
    data_digest: str


def assess(
    system: str,
    scored: Scored,
    data_digest: str,
    *,
    calibrate: bool = True,
    replicates: int = 200,
    seed: int = 0,
) -> Assessment:
    """Figures pooled and by corpus; with LLRs when there are speakers enough to cross-validate."""
    trials = scored.trials
    sides = Sides.of(trials)
    llr = _llr(scored, sides, seed) if calibrate else None
    groups = {}
    for name, keep in _groups(trials).items():
        target = trials.target[keep]
        if target.any() and not target.all():
            groups[name] = figures.measure(
                scored.measures.cosine[keep],
                target,
                sides.select(keep),
                llr=None if llr is None else llr[keep],
                replicates=replicates,
                seed=seed,
            )
    return Assessment(system, scored, llr, groups, data_digest)


def data_digest(trials: Trials, voices: Voices) -> str:
    """SHA-256 over the files and the trials, so that two reports can be known to share both."""
    digest = hashlib.sha256("\n".join(voices.digests).encode())
    for model in trials.models:
        digest.update(repr(model.clips).encode())
    for column in (trials.enrol, trials.test, trials.target):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _groups(trials: Trials) -> Mapping[str, NDArray[np.bool_]]:
    """The trials of each corpus and of all; trials across corpora are in none but the last."""
    own, corpus = trials.enrol_corpus, trials.corpus
    names = np.unique(corpus[own == corpus])
    groups = {str(name): (corpus == name) & (own == name) for name in names if len(names) > 1}
    return {**groups, POOLED: np.ones(len(trials), bool)}


def _llr(scored: Scored, sides: Sides, seed: int) -> Floats | None:
    speakers = (sides.speaker[sides.enrol], sides.speaker[sides.test])
    if int(sides.speaker.max()) + 1 < 3 * calibration.FOLDS:
        return None
    return calibration.cross_validated(
        scored.measures, scored.trials.target, speakers, terms=TERMS, seed=seed
    )
