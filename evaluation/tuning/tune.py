"""Tune a model's contract to an operator's calls, and keep only what is shown to help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import comparison
from evaluation.metrics.comparison import Difference
from evaluation.metrics.sides import Sides
from evaluation.report import document
from evaluation.report.assessment import TERMS
from evaluation.report.document import Document
from evaluation.scoring import calibration, normalization, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.measures import Measures
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.tuning import calls as call_trials
from evaluation.tuning import cohorts, judgment, line, recordings
from evaluation.tuning.calls import Calls, LabelledTrials
from evaluation.tuning.judgment import ChosenScore, Decided, Promise
from evaluation.tuning.recordings import Recordings
from service.contract import Calibration, Contract, OperatingPoint, ScoreKind

if TYPE_CHECKING:
    from service.inference.session import Device

HELPS, HARMS = "B is better", "A is better"
MAX_PAIRED = 2000  # recordings without labels: two million pairs
CALIBRATION, THRESHOLDS = "calibration and thresholds", "thresholds"


@dataclass(frozen=True, slots=True)
class Request:
    """What to tune, on which recordings, and how carefully to judge it."""

    model: Path
    recordings: Path
    split: str | None = None
    cache: Path | None = None
    device: Device = "auto"
    max_trials: int = 200_000
    replicates: int = 200
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Tuned:
    """The tuned contract, None if nothing is shown to help, and the document of the report."""

    contract: Contract | None
    document: Document


async def tune(request: Request) -> Tuned:
    """Measure the line, judge what could be fitted to it, and fit what helps.

    Raises EvaluationError if there is nothing to hear or to judge on.
    """
    found = recordings.read(request.recordings, request.split)
    found, bands, unreadable = await line.label_bands(found)
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            contract = model.contract
            calls = await call_trials.embed_calls(
                model, found, cache, max_trials=request.max_trials, seed=request.seed
            )
    if calls.trials is not None:
        changed, judged = _tune_on_trials(request, contract, calls, calls.trials)
    else:
        changed, judged = _tune_on_pairs(request, contract, calls, found)
    if changed is not None:
        changed = replace(
            changed,
            provenance={
                **contract.provenance,
                "tuned": {"recordings": len(found.clips), "kept": judged["kept"]},
            },
        )
    head = document.make_head(request.seed, request.replicates, str(request.recordings), "")
    described = {
        **head,
        "system": contract.model_id,
        "line": line.describe(bands, calls.voices, unreadable),
        "missing": [*calls.missing, *judged.pop("missing", ())],
        "changed": changed is not None,
        **judged,
    }
    return Tuned(changed, described)


def _tune_on_trials(
    request: Request, contract: Contract, calls: Calls, trials: LabelledTrials
) -> tuple[Contract | None, Document]:
    """Judge score, calibration and thresholds on pairs of labelled recordings."""
    seed, replicates = request.seed, request.replicates
    rate = judgment.choose_rate(contract, int((~trials.target).sum()))
    members = cohorts.gather_members(calls, seed)
    chosen, rows = judgment.choose_score(
        trials, contract, members, replicates=replicates, seed=seed
    )
    before = judgment.decide_by_contract(trials, contract, rate)
    fit = _choose_fit(contract, trials, chosen, before)
    after = judgment.decide_held_out(trials, fit.score, fit.terms, rate, seed)
    cllr = _compare_cllr(trials, before, after, request)
    if chosen.changed and cllr is not None and cllr.verdict == HARMS:
        chosen = judgment.keep_own(trials, contract)
        fit = _choose_fit(contract, trials, chosen, before)
        after = judgment.decide_held_out(trials, fit.score, fit.terms, rate, seed)
        cllr = _compare_cllr(trials, before, after, request)
    kept: list[str] = []
    promise = None
    tuned: Contract | None = None
    if chosen.changed or cllr is None or cllr.verdict == HELPS:
        kept = [chosen.name] if chosen.changed else []
        kept.append(CALIBRATION)
        tuned = _refit(contract, trials, chosen, fit, rate)
    elif contract.calibration is not None:
        promise = _judge_labelled(trials, before, contract.calibration, rate, request)
        after = judgment.decide_again(trials, before.llr, rate, seed)
        if promise.helps:
            kept.append(THRESHOLDS)
            tuned = _remeasure(contract, promise)
    measured = before if tuned is None else after
    whole = trials.whole.trials
    return tuned, {
        "promised": rate,
        "trials": {
            "targets": int(whole.target.sum()),
            "nontargets": int((~whole.target).sum()),
            "speakers": int(trials.clip_speaker.max()) + 1,
        },
        "scores": rows,
        "cllr": cllr,
        "promise": promise,
        "kept": kept,
        "before": judgment.measure_rates(trials, before, rate, replicates=replicates, seed=seed),
        "difference": tuned and _compare_eer(trials, before, after, request),
        "after": tuned
        and judgment.measure_rates(trials, after, rate, replicates=replicates, seed=seed),
        "groups": list(judgment.measure_groups(trials, before, measured, rate, seed)),
        "missing": [] if members else [_say_too_few_voices(calls)],
    }


@dataclass(frozen=True, slots=True)
class _Fit:
    """What a calibration is fitted on: a score (n,) of the trials, and terms.

    `base` is the calibration whose LLRs that score is, None if it is a score that has none yet.
    """

    score: NDArray[np.float64]
    terms: Sequence[str]
    base: Calibration | None

    def into_calibration(self, fitted: Calibration, kind: ScoreKind) -> Calibration:
        """The calibration of the score itself, of its kind."""
        if self.base is None:
            return replace(fitted, score=kind)
        scale = fitted.weights["cosine"]
        weights = {term: scale * weight for term, weight in self.base.weights.items()}
        bias = fitted.bias + scale * self.base.bias
        return replace(fitted, bias=bias, weights=weights, score=self.base.score)


def _choose_fit(
    contract: Contract, trials: LabelledTrials, chosen: ChosenScore, before: Decided
) -> _Fit:
    """Fit a new score's calibration with all terms, but only scale and offset of the model's own.

    What quality is worth was learned from more speakers than an operator has.
    """
    if chosen.changed or before.margin is None:
        return _Fit(chosen.values, TERMS, None)
    return _Fit(before.llr, ("cosine",), contract.calibration)


def _tune_on_pairs(
    request: Request, contract: Contract, calls: Calls, found: Recordings
) -> tuple[Contract | None, Document]:
    """Judge the promised false-match rate on pairs of recordings, taken as different callers.

    A caller who is there twice counts as an impostor who is accepted, so the thresholds err on the
    strict side.
    """
    rate = judgment.read_promised_rate(contract)
    judged: Document = {
        "promised": rate,
        "trials": None,
        "scores": [],
        "cllr": None,
        "promise": None,
        "kept": [],
        "before": None,
        "difference": None,
        "after": None,
        "groups": [],
    }
    if contract.calibration is None or not contract.calibration.false_match:
        return None, judged
    llr, sides = _score_pairs(calls, found, contract, request)
    needed = math.ceil(calibration.ERRORS_NEEDED / rate)
    if len(llr) < needed:
        missing = (
            f"{needed:,} pairs of recordings are needed to measure a false-match rate of {rate:g}:"
            f" there are {len(llr):,}"
        )
        return None, {**judged, "missing": [missing]}
    promise = judgment.judge_promise(
        llr,
        sides,
        np.zeros(len(llr), int),
        contract.calibration,
        rate,
        replicates=request.replicates,
        seed=request.seed,
    )
    judged["promise"] = promise
    if not promise.helps:
        return None, judged
    return _remeasure(contract, promise), {**judged, "kept": [THRESHOLDS]}


def _compare_cllr(
    trials: LabelledTrials, before: Decided, after: Decided, request: Request
) -> Difference | None:
    """Compare the cost of LLRs; None if the model has no calibration yet."""
    if before.margin is None:
        return None
    return comparison.compare_cllr(
        before.llr,
        after.llr,
        trials.target,
        trials.sides,
        replicates=request.replicates,
        seed=request.seed,
    )


def _compare_eer(
    trials: LabelledTrials, before: Decided, after: Decided, request: Request
) -> Difference:
    """Compare the EER of LLRs on whole recordings."""
    whole = trials.is_whole
    return comparison.compare(
        before.llr[whole],
        after.llr[whole],
        trials.target[whole],
        trials.sides.select(whole),
        replicates=request.replicates,
        seed=request.seed,
    )["EER"]


def _refit(
    contract: Contract, trials: LabelledTrials, chosen: ChosenScore, fit: _Fit, rate: float
) -> Contract:
    """Put the chosen score's cohort, its calibration and thresholds into the contract."""
    targets = int(trials.target.sum())
    fitted = calibration.fit_for_contract(
        replace(trials.measures, cosine=fit.score),
        trials.target,
        trials.sides.speakers,
        terms=fit.terms,
        fitted_on=(
            f"{targets:,} target and {len(trials.target) - targets:,} non-target trials of "
            f"{int(trials.clip_speaker.max()) + 1} speakers of the operator's own calls"
        ),
        strata=trials.length,
    )
    kind, cohort = ScoreKind.COSINE, contract.cohort
    if chosen.members is not None:
        kind = ScoreKind.AS_NORM
        cohort = chosen.members.into_cohort(f"{chosen.members.of_calls} of the operator's calls")
    return replace(
        contract,
        calibration=fit.into_calibration(fitted, kind),
        operating_point=OperatingPoint(rate),
        cohort=cohort,
    )


def _remeasure(contract: Contract, promise: Promise) -> Contract:
    """Put thresholds that were measured on the calls into the contract's calibration."""
    own = contract.calibration
    assert own is not None, "a promise is judged by a calibration"
    fitted_on = f"{own.fitted_on}; thresholds on the operator's own calls"
    changed = replace(own, false_match=promise.points, fitted_on=fitted_on)
    return replace(contract, calibration=changed, operating_point=OperatingPoint(promise.promised))


def _judge_labelled(
    trials: LabelledTrials, before: Decided, own: Calibration, rate: float, request: Request
) -> Promise:
    others = ~trials.target
    return judgment.judge_promise(
        before.llr[others],
        trials.sides.select(others),
        trials.length[others],
        own,
        rate,
        replicates=request.replicates,
        seed=request.seed,
    )


def _score_pairs(
    calls: Calls, found: Recordings, contract: Contract, request: Request
) -> tuple[NDArray[np.float64], Sides]:
    """LLRs of pairs of recordings that are not known to be of one speaker, and their sides."""
    clips = found.labelled * (calls.labelled is not None) + found.unlabelled
    rng = np.random.default_rng(request.seed)
    heard = np.flatnonzero(np.concatenate([part.acquired for part in calls.voices]))
    heard = rng.permutation(heard)[:MAX_PAIRED]
    vectors, speech_s, snr_db = (
        np.concatenate([getattr(part, name) for part in calls.voices])[heard]
        for name in ("vectors", "speech_s", "snr_db")
    )
    names = [str(clips[i].speaker) if clips[i].speaker.name else f"{i}" for i in heard]
    speaker = np.unique(names, return_inverse=True)[1]
    first, second = np.triu_indices(len(heard), 1)
    keep = np.flatnonzero(speaker[first] != speaker[second])
    if len(keep) > request.max_trials:
        keep = rng.choice(keep, request.max_trials, replace=False)
    first, second = first[keep], second[keep]
    score = scores.measure_cosines(vectors, vectors, first, second)
    if contract.cohort is not None and cohorts.own_kind(contract) is ScoreKind.AS_NORM:
        score = normalization.normalize_by_contract(
            score, (vectors, first), (vectors, second), contract.cohort
        )
    measures = Measures(score, speech_s[first], speech_s[second], snr_db[second])
    assert contract.calibration is not None, "the caller checks"
    llr = calibration.apply_calibration(contract.calibration, measures)
    return llr, Sides(first, second, speaker)


def _say_too_few_voices(calls: Calls) -> str:
    heard = sum(int(part.acquired.sum()) for part in calls.voices)
    return (
        f"{cohorts.MIN_VOICES} voices are needed to normalize scores by: there are {heard}"
        f" recordings, of which {cohorts.TAKES} of a labelled speaker count"
    )
