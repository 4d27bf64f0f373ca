"""A model file's scores made likelihood ratios, fitted on trials run as the service runs them.

model.onnx ─ evaluation.served ─> voices ─> scores ─> logistic regression ─> contract
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation import calibration, embeddings, manifest, scores
from evaluation.assessment import TERMS, data_digest
from evaluation.bootstrap import Sides
from evaluation.cache import Cache
from evaluation.errors import EvaluationError
from evaluation.manifest import Clip
from evaluation.run import Request, read_trials
from evaluation.served import Served
from exporters import model_file
from exporters.errors import TrialError
from service.contract import Calibration, Cohort, Contract, OperatingPoint
from service.scoring import l2_normalized

DEFAULT_FALSE_MATCH_RATE = 0.01
_COHORT_CLIPS = 3
_COHORT_TOP = 100


@dataclass(frozen=True, slots=True)
class Fitted:
    """What goes into the contract, and what it was fitted on."""

    calibration: Calibration
    operating_point: OperatingPoint
    cohort: Cohort | None
    trials: int
    targets: int
    speakers: int

    def into(self, contract: Contract) -> Contract:
        """`contract` with this in place of what it had."""
        return dataclasses.replace(
            contract,
            calibration=self.calibration,
            operating_point=self.operating_point,
            cohort=self.cohort or contract.cohort,
        )


async def fit(
    request: Request,
    *,
    target_false_match_rate: float | None = None,
    cohort_split: str | None = None,
    cohort_speakers: int = 200,
) -> Fitted:
    """Calibration and operating point of `request.model` on the trials that `request` asks for.

    Without a target rate the operating point is 1%, or the lowest rate that the trials can
    measure when that is higher. Raises `TrialError` when there are too few trials to measure any.
    """
    asked = read_trials(request)
    with Cache.open(request.cache) as cache:
        async with Served.open(request.model, device=request.device) as model:
            voices = await embeddings.embed(model, asked.clips, cache, label="trials")
            cohort = None
            if cohort_split is not None:
                clips = _cohort_clips(request, cohort_split, cohort_speakers)
                heard = await embeddings.embed(model, clips, cache, label="cohort")
                cohort = _cohort(clips, heard, f"{cohort_split} split")
    scored = scores.score(asked, voices)
    sides = Sides.of(scored.trials)
    speakers = int(sides.speaker.max()) + 1
    digest = data_digest(asked, voices)[:12]
    corpora = sorted({clip.corpus for clip in asked.clips if clip.corpus})
    targets = int(scored.trials.target.sum())
    fitted = calibration.for_contract(
        scored.measures,
        scored.trials.target,
        (sides.speaker[sides.enrol], sides.speaker[sides.test]),
        terms=TERMS,
        fitted_on=(
            f"{targets:,} target and {len(scored.trials) - targets:,} non-target trials of "
            f"{speakers} speakers ({', '.join(corpora) or 'no corpus named'}), data {digest}"
        ),
    )
    rate = operating_rate(fitted, target_false_match_rate)
    return Fitted(fitted, OperatingPoint(rate), cohort, len(scored.trials), targets, speakers)


def operating_rate(fitted: Calibration, wanted: float | None) -> float:
    """`wanted`, or a default, among the rates that `fitted` measured; else `TrialError`."""
    rates = [rate for rate, _ in fitted.false_match]
    if not rates:
        raise TrialError("too few non-target trials to measure any false-match rate")
    rate = wanted or max(DEFAULT_FALSE_MATCH_RATE, rates[-1])
    if rate < rates[-1]:
        raise TrialError(
            f"the trials cannot measure a false-match rate of {rate:g}: the lowest is {rates[-1]:g}"
        )
    return rate


def _cohort_clips(request: Request, split: str, speakers: int) -> tuple[Clip, ...]:
    if request.manifest is None:
        raise EvaluationError("a cohort needs --manifest")
    by_speaker: dict[str, list[Clip]] = {}
    for clip in manifest.read(request.manifest, split):
        by_speaker.setdefault(clip.speaker, []).append(clip)
    names = sorted(by_speaker)
    chosen = np.random.default_rng(request.seed).permutation(len(names))[:speakers]
    return tuple(clip for i in sorted(chosen) for clip in by_speaker[names[i]][:_COHORT_CLIPS])


def _cohort(clips: Sequence[Clip], heard: embeddings.Voices, source: str) -> Cohort:
    """One vector a speaker: the mean of its clips."""
    names, owner = np.unique([clip.speaker for clip in clips], return_inverse=True)
    held = [np.flatnonzero((owner == i) & heard.acquired) for i in range(len(names))]
    means = [heard.vectors[rows].mean(axis=0) for rows in held if len(rows)]
    vectors: NDArray[np.float32] = l2_normalized(np.stack(means))
    return Cohort(
        vectors.astype("<f4").tobytes(),
        len(vectors),
        min(_COHORT_TOP, len(vectors)),
        f"{len(vectors)} speakers of the {source}",
    )


def write(model: Path, fitted: Fitted, output: Path | None = None) -> Contract:
    """Puts `fitted` into the contract of `model`, or of a copy of it at `output`."""
    return model_file.rewrite_contract(model, fitted.into, output=output)
