"""Scores of the labelled trials by each cohort, none of which holds a voice of the trial's folds.

cosine              as it is
the model's cohort  adaptive S-norm by the contract's own voices
the calls           adaptive S-norm by the voices of these calls
both                by those and the contract's own
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.sides import Integers
from evaluation.scoring import calibration, normalization
from evaluation.scoring.normalization import Norm
from evaluation.tuning.calls import Calls, LabelledTrials
from service.contract import Cohort, Contract, ScoreKind
from service.decisions.scoring import cohort_vectors

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]

NEAREST = 0.3  # of the voices of the calls
MIN_VOICES = 50
MAX_VOICES = 400  # 400 voices of 192 numbers are 0.4 MB of a model file
TAKES = 3  # of one labelled speaker
ANYBODY = -1


@dataclass(frozen=True, slots=True)
class Members:
    """Voices (m, dim) to normalize by, and the speaker of each in the trials, -1 if in none.

    Of the voices of the calls, `NEAREST` are looked at, so that a cohort without the voices of
    some folds gives the same statistics as the whole one.
    """

    vectors: Vectors
    speaker: Integers
    of_calls: int

    def into_cohort(self, source: str) -> Cohort:
        nearest = max(2, round(NEAREST * self.of_calls))
        return normalization.make_contract_cohort(self.vectors, top_n=nearest, source=source)

    def normalize_held_out(self, trials: LabelledTrials, seed: int) -> Floats:
        """The scores (n,) of the trials, each by the voices of neither of its folds' speakers."""
        speakers = trials.sides.speakers
        fold = calibration.assign_folds(1 + int(trials.clip_speaker.max()), seed=seed)
        own_fold = np.where(self.speaker < 0, ANYBODY, fold[self.speaker])
        scores = np.empty(len(trials.target))
        for split in calibration.split_folds(speakers, seed=seed):
            kept = ~np.isin(own_fold, split.folds)
            scores[split.own] = normalization.normalize(
                Norm.AS,
                trials.measures.cosine[split.own],
                (trials.enrolled, trials.enrol[split.own]),
                (trials.test, trials.test_row[split.own]),
                self.vectors[kept],
                top_n=max(2, round(NEAREST * int(kept[: self.of_calls].sum()))),
            )
        return scores


def gather_members(calls: Calls, seed: int) -> Members | None:
    """Gather voices of the calls, at most three of a labelled speaker; None if too few."""
    vectors, speakers = [], []
    if calls.labelled is not None and calls.trials is not None:
        speaker = calls.trials.clip_speaker
        rows = np.flatnonzero(calls.labelled.acquired & (speaker >= 0))
        order = rows[np.argsort(speaker[rows], kind="stable")]
        first = np.searchsorted(speaker[order], speaker[order], side="left")
        rows = order[np.arange(len(order)) - first < TAKES]
        vectors.append(calls.labelled.vectors[rows])
        speakers.append(speaker[rows])
    if calls.unlabelled is not None:
        unlabelled = calls.unlabelled.vectors[calls.unlabelled.acquired]
        vectors.append(unlabelled)
        speakers.append(np.full(len(unlabelled), ANYBODY))
    if sum(map(len, vectors)) < MIN_VOICES:
        return None
    all_vectors, all_speakers = np.concatenate(vectors), np.concatenate(speakers)
    chosen = np.random.default_rng(seed).permutation(len(all_vectors))[:MAX_VOICES]
    return Members(all_vectors[chosen], all_speakers[chosen], len(chosen))


def join_own(members: Members, own: Cohort) -> Members:
    """Add the contract's own cohort, which has no voice of the trials."""
    vectors = cohort_vectors(own)
    return Members(
        np.concatenate([members.vectors, vectors]),
        np.concatenate([members.speaker, np.full(len(vectors), ANYBODY)]),
        members.of_calls,
    )


def score_own(trials: LabelledTrials, contract: Contract) -> Floats:
    """The scores (n,) that the model's calibration maps: cosines, or normalized by its cohort."""
    if own_kind(contract) is ScoreKind.COSINE or contract.cohort is None:
        return trials.measures.cosine
    return normalization.normalize_by_contract(
        trials.measures.cosine,
        (trials.enrolled, trials.enrol),
        (trials.test, trials.test_row),
        contract.cohort,
    )


def own_kind(contract: Contract) -> ScoreKind:
    return ScoreKind.COSINE if contract.calibration is None else contract.calibration.score


def list_candidates(contract: Contract, members: Members | None) -> Mapping[str, Members | None]:
    """The cohorts to try beside the model's own score, by name; None is plain cosine."""
    candidates: dict[str, Members | None] = {}
    if own_kind(contract) is not ScoreKind.COSINE:
        candidates["plain cosine"] = None
    if members is not None:
        candidates["adaptive S-norm by these calls"] = members
        if contract.cohort is not None:
            candidates["by these calls and the model's cohort"] = join_own(members, contract.cohort)
    return candidates
