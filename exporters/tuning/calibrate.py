"""Calibrate a model file's scores to likelihood ratios, on trials run as the service runs them.

model.onnx ─ sayso_model ─> voices ─> scores at several lengths ─> logistic regression
    ─> contract
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.degrade import impairments
from evaluation.degrade.impairments import Impaired
from evaluation.errors import EvaluationError
from evaluation.experiments.request import Request
from evaluation.experiments.trial_selection import read_trials
from evaluation.report.assessment import TERMS, hash_data
from evaluation.scoring import calibration, calibration_set, embeddings, normalization
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest
from evaluation.trials.manifest import Clip, Speaker
from exporters import model_file
from exporters.errors import TrialError
from service.contract import Calibration, Cohort, Contract, OperatingPoint, ScoreKind

DEFAULT_FALSE_MATCH_RATE = 0.01
# Trials in these tell what a line costs. Those on a steep line or in MP3 are hopeless for many
# models: they would flatten every ratio. The cohort speaks in all of these, so that what a line
# does to every voice alike, which a cosine takes for likeness, is normalized away.
CONDITIONS = ("gentle line", "GSM")
COHORT_CONDITIONS = (
    *("steep line", "gentle line", "G.711 mu-law", "MP3 16 kb/s", "GSM"),
    *("50 Hz hum", "keypad tones first"),
)
_COHORT_CLIPS = 3
_COHORT_TOP = 50


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
        """`contract` with these values in place of its own."""
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
    kind: ScoreKind = ScoreKind.COSINE,
    lengths_s: Sequence[float | None] = calibration_set.LENGTHS_S,
    conditions: Sequence[str] = (),
    cohort_conditions: Sequence[str] = (),
) -> Fitted:
    """Fit calibration and operating point of `request.model` on the trials that `request` asks for.

    The test side is cut to its first seconds of net speech at each of `lengths_s` (None: all of
    it), so that the calibration holds for a call's first second and for all of it. It also passes
    through each of `conditions`, alone and together with the enrolled side, so that impostors on
    the same kind of line are known. The cohort is heard as recorded and in each of
    `cohort_conditions`. Without a target rate the operating point is 1%, or the lowest rate that
    the trials can measure if that is higher. `kind` is the score to fit on; a normalized one needs
    a cohort, here or in the model already. Raises `TrialError` if there are too few trials to
    measure any rate.
    """
    trial_list = read_trials(request)
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            cohort = None
            if cohort_split is not None:
                clips = _read_cohort_clips(request, cohort_split, cohort_speakers)
                _refuse_shared(trial_list.clips, clips, cohort_split)
                cohort = await _embed_cohort(
                    request, model, clips, cache, cohort_split, cohort_conditions
                )
            normaliser = _normalizer(kind, cohort or model.contract.cohort)
            measured = await calibration_set.build_calibration_set(
                model,
                trial_list,
                cache,
                lengths_s=lengths_s,
                conditions=conditions,
                cohort=normaliser,
                limit=request.max_trials,
                seed=request.seed,
            )
    speakers = int(measured.sides.speaker.max()) + 1
    digest = hash_data(trial_list, measured.whole)[:12]
    corpora = sorted({clip.corpus for clip in trial_list.clips if clip.corpus})
    trials, targets = len(measured.target), int(measured.target.sum())
    fitted = calibration.fit_for_contract(
        measured.measures,
        measured.target,
        measured.speakers,
        terms=TERMS,
        fitted_on=(
            f"{targets:,} target and {trials - targets:,} non-target trials of "
            f"{speakers} speakers ({', '.join(corpora) or 'no corpus named'}), net speech heard "
            f"{_format_lengths(measured.length_s)}{_format_conditions(conditions)}, data {digest}"
        ),
    )
    fitted = dataclasses.replace(fitted, score=kind)
    rate = choose_operating_rate(fitted, target_false_match_rate)
    return Fitted(fitted, OperatingPoint(rate), cohort, trials, targets, speakers)


def _format_lengths(length_s: NDArray[np.float64]) -> str:
    return ", ".join(
        "all" if np.isinf(length) else f"{length:g} s" for length in np.unique(length_s)
    )


def _format_conditions(conditions: Sequence[str]) -> str:
    named = ", ".join(_drop_clean(conditions))
    return f", as recorded and with {named}" if named else ""


def choose_operating_rate(fitted: Calibration, wanted: float | None) -> float:
    """Choose `wanted`, or a default, if `fitted` measured that rate; else raise `TrialError`."""
    rates = [rate for rate, _ in fitted.false_match]
    if not rates:
        raise TrialError("too few non-target trials to measure any false-match rate")
    rate = wanted or max(DEFAULT_FALSE_MATCH_RATE, rates[-1])
    if rate < rates[-1]:
        raise TrialError(
            f"the trials cannot measure a false-match rate of {rate:g}: the lowest is {rates[-1]:g}"
        )
    return rate


def _read_cohort_clips(request: Request, split: str, speakers: int) -> tuple[Clip, ...]:
    if request.manifest is None:
        raise EvaluationError("a cohort needs --manifest")
    by_speaker: dict[Speaker, list[Clip]] = {}
    for clip in manifest.read(request.manifest, split):
        by_speaker.setdefault(clip.speaker, []).append(clip)
    names = sorted(by_speaker)
    chosen = np.random.default_rng(request.seed).permutation(len(names))[:speakers]
    return tuple(clip for i in sorted(chosen) for clip in by_speaker[names[i]][:_COHORT_CLIPS])


def _refuse_shared(clips: Sequence[Clip], cohort: Sequence[Clip], split: str) -> None:
    if shared := manifest.shared_speaker(clips, cohort):
        raise TrialError(f"split {split!r} shares speakers with the trials: {shared}")


async def _embed_cohort(
    request: Request,
    model: SaysoModel,
    clips: Sequence[Clip],
    cache: Cache,
    split: str,
    conditions: Sequence[str],
) -> Cohort:
    """Embed every cohort speaker as recorded and in each condition.

    A voice's nearest cohort members are then on its own kind of line, so that what a line does to
    all voices alike is normalized away.
    """
    parts = [await embeddings.embed(model, clips, cache, label="cohort")]
    for treatment in (Impaired(name, request.seed) for name in _drop_clean(conditions)):
        label = f"cohort, {treatment.name}"
        parts.append(await embeddings.embed(model, clips, cache, treatment=treatment, label=label))
    vectors = np.concatenate([normalization.build_cohort(clips, voices) for voices in parts])
    speakers = len({clip.speaker for clip in clips})
    source = f"{speakers} speakers of the {split} split{_format_conditions(conditions)}"
    return normalization.make_contract_cohort(vectors, top_n=_COHORT_TOP, source=source)


def _drop_clean(conditions: Sequence[str]) -> list[str]:
    return [name for name in conditions if name != impairments.CLEAN]


def _normalizer(kind: ScoreKind, cohort: Cohort | None) -> Cohort | None:
    """Pick the cohort that scores are normalized by, if any."""
    if kind is ScoreKind.COSINE:
        return None
    if cohort is None:
        raise TrialError("as_norm needs a cohort, and the model has none; give --cohort-split")
    return cohort


def write(model: Path, fitted: Fitted, output: Path | None = None) -> Contract:
    """Write `fitted` into the contract of `model`, or of a copy of it at `output`."""
    return model_file.rewrite_contract(model, fitted.into, output=output)
