"""One system measured: scores, calibration, and figures by group."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import figures
from evaluation.metrics.figures import Figures
from evaluation.metrics.sides import Sides
from evaluation.report import breakdowns
from evaluation.report.breakdowns import Masks
from evaluation.scoring import calibration
from evaluation.scoring.embeddings import Voices
from evaluation.scoring.scores import ScoredTrials
from evaluation.trials import labels
from evaluation.trials.trials import Trials
from service.decisions import scoring

Floats = NDArray[np.float64]

POOLED = "pooled"
# How much a caller says may not change what a cosine is worth: see `calibration.RISING`.
TERMS = tuple(term for term in scoring.TERMS if term != "cosine_log_test_speech")
DEMOGRAPHIC = ("gender", "sex", "age", "accent", "dialect", "language", "nationality", "ethnicity")


@dataclass(frozen=True, slots=True)
class Assessment:
    """What was measured of one system: `llr` (n,) is cross-validated over `terms`."""

    system: str
    scored: ScoredTrials
    sides: Sides
    llr: Floats | None
    groups: Mapping[str, Figures]
    data_digest: str
    terms: tuple[str, ...] = TERMS

    @property
    def scores(self) -> Floats:
        """The raw scores (n,)."""
        return self.scored.measures.cosine


def assess(
    system: str,
    scored: ScoredTrials,
    data_digest: str,
    *,
    terms: tuple[str, ...] = TERMS,
    replicates: int = 200,
    seed: int = 0,
) -> Assessment:
    """Figures pooled and by corpus; with LLRs when there are speakers enough to cross-validate."""
    sides = scored.trials.sides()
    llr = _llr(scored, sides, terms, seed)
    whole = np.ones(len(scored.trials), bool)
    corpora = breakdowns.split_by_corpus(scored)
    masks = {**(corpora if len(corpora) > 1 else {}), POOLED: whole}
    measured = Assessment(system, scored, sides, llr, {}, data_digest, terms)
    return replace(
        measured, groups=measure_groups(measured, masks, replicates=replicates, seed=seed)
    )


def measure_groups(
    assessment: Assessment, masks: Masks, *, replicates: int = 200, seed: int = 0
) -> dict[str, Figures]:
    """The figures of each group of trials that has targets and non-targets."""
    target, llr = assessment.scored.trials.target, assessment.llr
    return {
        name: figures.measure(
            assessment.scores[keep],
            target[keep],
            assessment.sides.select(keep),
            llr=None if llr is None else llr[keep],
            replicates=replicates,
            seed=seed,
        )
        for name, keep in masks.items()
        if target[keep].any() and not target[keep].all()
    }


def list_fairness_groups(scored: ScoredTrials) -> Mapping[str, Masks]:
    """The trials within each demographic group, by column; by corpus when nothing is known."""
    known = [name for name in labels.list_columns(scored.trials.clips) if name in DEMOGRAPHIC]
    if known:
        return {name: breakdowns.split_by_label(scored, name) for name in known}
    return {"corpus": breakdowns.split_by_corpus(scored)}


def hash_data(trials: Trials, voices: Voices) -> str:
    """SHA-256 over the files and the trials, so that two reports can be known to share both."""
    digest = hashlib.sha256("\n".join(voices.digests).encode())
    for model in trials.models:
        digest.update(repr(model.clips).encode())
    for column in (trials.enrol, trials.test, trials.target):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _llr(scored: ScoredTrials, sides: Sides, terms: Sequence[str], seed: int) -> Floats | None:
    speakers = (sides.speaker[sides.enrol], sides.speaker[sides.test])
    if int(sides.speaker.max()) + 1 < 3 * calibration.FOLDS:
        return None
    return calibration.cross_validate(
        scored.measures, scored.trials.target, speakers, terms=terms, seed=seed
    )
