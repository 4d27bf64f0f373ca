"""The assessment of one system: scores, calibration, and figures by group of trials."""

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
# A caller chooses how long to speak, which may not change what a cosine is worth.
TERMS = tuple(term for term in scoring.TERMS if term != "cosine_log_test_speech")


@dataclass(frozen=True, slots=True)
class Assessment:
    """One system on its trials; `llr` (n,) is cross-validated with the calibration's `terms`."""

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
    """Measure figures pooled and by corpus, with LLRs if there are enough speakers."""
    sides = scored.trials.sides()
    llr = _cross_validate(scored, sides, terms, seed)
    whole = np.ones(len(scored.trials), bool)
    corpora = breakdowns.split_by_corpus(scored)
    masks = {**(corpora if len(corpora) > 1 else {}), POOLED: whole}
    assessment = Assessment(system, scored, sides, llr, {}, data_digest, terms)
    return replace(
        assessment, groups=measure_groups(assessment, masks, replicates=replicates, seed=seed)
    )


def measure_groups(
    assessment: Assessment, masks: Masks, *, replicates: int = 200, seed: int = 0
) -> dict[str, Figures]:
    """Measure the figures of each group of trials that has targets and non-targets."""
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
    """Masks of the demographic groups by column; of the corpora if there is no such column."""
    known = [
        name for name in labels.list_columns(scored.trials.clips) if name in breakdowns.DEMOGRAPHIC
    ]
    if known:
        return {name: breakdowns.split_by_label(scored, name) for name in known}
    return {"corpus": breakdowns.split_by_corpus(scored)}


def hash_data(trials: Trials, voices: Voices) -> str:
    """SHA-256 over the files and the trials, by which two reports can be seen to share both."""
    digest = hashlib.sha256("\n".join(voices.digests).encode())
    for model in trials.models:
        digest.update(repr(model.clips).encode())
    for column in (trials.enrol, trials.test, trials.target):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _cross_validate(
    scored: ScoredTrials, sides: Sides, terms: Sequence[str], seed: int
) -> Floats | None:
    speakers = (sides.speaker[sides.enrol], sides.speaker[sides.test])
    if int(sides.speaker.max()) + 1 < 3 * calibration.FOLDS:
        return None
    return calibration.cross_validate(
        scored.measures, scored.trials.target, speakers, terms=terms, seed=seed
    )
