"""What is shown to help, and how the model does before and after.

Everything is judged on speakers that it was not fitted on: a trial's cohort, calibration and
threshold come from other folds of the speakers than its own two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.metrics import Sweep, comparison, figures
from evaluation.metrics.bootstrap import Interval
from evaluation.metrics.error_rates import (
    Rate,
    measure_error_rates,
    measure_false_match_rate,
)
from evaluation.metrics.figures import Figure
from evaluation.metrics.sides import Integers, Sides, weigh_pairs_equally
from evaluation.report import breakdowns
from evaluation.report.few_trials import MIN_TRIALS
from evaluation.scoring import calibration
from evaluation.tuning import cohorts
from evaluation.tuning.calls import LabelledTrials
from evaluation.tuning.cohorts import Members
from service.contract import Calibration, Contract
from service.decisions.thresholds import false_match_threshold

Floats = NDArray[np.float64]

DEFAULT_RATE = 0.01
OWN = "the model's own score"
GROUP_REPLICATES = 100


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score's EER on whole recordings, and its paired difference to the model's own score."""

    name: str
    eer: float
    difference: Interval | None
    helps: bool


@dataclass(frozen=True, slots=True)
class ChosenScore:
    """The score that is shown to be best: its values (n,), and the cohort if it is a new one."""

    name: str
    values: Floats
    members: Members | None
    changed: bool


@dataclass(frozen=True, slots=True)
class Rates:
    """Error rates on whole recordings; `fmr` and `fnmr` at the threshold for the promised rate.

    `fnmr_at_promise` is what FNMR would be if the false-match rate were the promised one exactly.
    """

    eer: Figure
    fmr: Rate | None
    fnmr: Rate | None
    fnmr_at_promise: float


@dataclass(frozen=True, slots=True)
class Decided:
    """Scores as the server would decide on them: LLRs (n,), and how far each is above its
    threshold (n,), None if there is no calibration."""

    llr: Floats
    margin: Floats | None


def read_promised_rate(contract: Contract) -> float:
    """The false-match rate that the contract promises, or the default."""
    point = contract.operating_point
    return DEFAULT_RATE if point is None else point.target_false_match_rate


def choose_rate(contract: Contract, nontargets: int) -> float:
    """The promised false-match rate, or the lowest that so many trials can measure if higher."""
    measurable = [r for r in calibration.RATES if r * nontargets >= calibration.ERRORS_NEEDED]
    return max([read_promised_rate(contract), *measurable[-1:]])


def keep_own(trials: LabelledTrials, contract: Contract) -> ChosenScore:
    """The score that the model has."""
    return ChosenScore(OWN, cohorts.score_own(trials, contract), None, changed=False)


def choose_score(
    trials: LabelledTrials,
    contract: Contract,
    members: Members | None,
    *,
    replicates: int,
    seed: int,
) -> tuple[ChosenScore, list[ScoreRow]]:
    """Choose the candidate of least EER among those shown to be better than the model's own."""
    chosen = keep_own(trials, contract)
    own = chosen.values
    rows = [ScoreRow(OWN, _measure_eer(trials, own), None, helps=False)]
    whole, sides = trials.is_whole, trials.sides.select(trials.is_whole)
    least = math.inf
    for name, candidate in cohorts.list_candidates(contract, members).items():
        values = trials.measures.cosine
        if candidate is not None:
            values = candidate.normalize_held_out(trials, seed)
        difference = comparison.compare(
            own[whole],
            values[whole],
            trials.target[whole],
            sides,
            replicates=replicates,
            seed=seed,
        )["EER"]
        helps = difference.verdict == "B is better"
        rows.append(ScoreRow(name, difference.second, difference.interval, helps))
        if helps and difference.second < least:
            least = difference.second
            chosen = ChosenScore(name, values, candidate, changed=True)
    return chosen, rows


def decide_by_contract(trials: LabelledTrials, contract: Contract, rate: float) -> Decided:
    """What a server with this contract decides; without a calibration, its scores alone."""
    score = cohorts.score_own(trials, contract)
    fitted = contract.calibration
    if fitted is None or not fitted.false_match:
        return Decided(score, None)
    llr = calibration.apply_calibration(fitted, replace(trials.measures, cosine=score))
    return Decided(llr, llr - find_threshold(fitted, rate))


def find_threshold(fitted: Calibration, rate: float) -> float:
    """The LLR threshold for `rate`, or the nearest rate that was measured."""
    rates = [measured for measured, _ in fitted.false_match]
    return false_match_threshold(fitted, min(max(rate, rates[-1]), rates[0]))


def decide_held_out(
    trials: LabelledTrials, score: Floats, terms: Sequence[str], rate: float, seed: int
) -> Decided:
    """What calibrations and thresholds decide that saw neither of a trial's two speakers."""
    measures = replace(trials.measures, cosine=score)
    llr = calibration.cross_validate(
        measures, trials.target, trials.sides.speakers, terms=terms, seed=seed
    )
    return decide_again(trials, llr, rate, seed)


def decide_again(trials: LabelledTrials, llr: Floats, rate: float, seed: int) -> Decided:
    """Decide on LLRs (n,) at thresholds that saw neither of a trial's two speakers."""
    thresholds = calibration.cross_validate_thresholds(
        llr, trials.target, trials.sides.speakers, trials.length, rate, seed=seed
    )
    return Decided(llr, llr - thresholds)


def measure_rates(
    trials: LabelledTrials, decided: Decided, rate: float, *, replicates: int, seed: int
) -> Rates:
    """Measure on whole recordings."""
    whole, sides = trials.is_whole, trials.sides.select(trials.is_whole)
    llr, target = decided.llr[whole], trials.target[whole]
    measured = figures.measure(llr, target, sides, replicates=replicates, seed=seed)
    fmr = fnmr = None
    if decided.margin is not None:
        fmr, fnmr = measure_error_rates(
            decided.margin[whole], target, sides, 0.0, replicates=replicates, seed=seed
        )
    sweep = Sweep.of(llr[target], llr[~target])
    return Rates(measured.eer, fmr, fnmr, metrics.fnmr_at_fmr(sweep, rate))


@dataclass(frozen=True, slots=True)
class Promise:
    """A promised false-match rate: what it comes to at the model's own threshold, and at one
    measured on these calls, for callers who were not among those it was measured on."""

    promised: float
    own: Rate
    measured: Rate
    points: tuple[tuple[float, float], ...]

    @property
    def helps(self) -> bool:
        """Whether the own threshold is shown to miss the promise and the other misses less."""
        assert self.own.interval is not None, "it is bootstrapped"
        holds = self.own.interval.low <= self.promised <= self.own.interval.high
        return not holds and self._miss(self.measured) < self._miss(self.own)

    def _miss(self, rate: Rate) -> float:
        return abs(math.log(max(rate.value, 1e-9) / self.promised))


def judge_promise(
    llr: Floats,
    sides: Sides,
    length: Integers,
    fitted: Calibration,
    rate: float,
    *,
    replicates: int,
    seed: int,
) -> Promise:
    """Judge the promise on non-target trials alone: their LLRs, sides and `length` (n,).

    It is measured on whole recordings, whose length is 0.
    """
    nobody, whole = np.zeros(len(llr), bool), length == 0
    held_out = calibration.cross_validate_thresholds(
        llr, nobody, sides.speakers, length, rate, seed=seed
    )
    own, measured = (
        measure_false_match_rate(
            (llr >= threshold)[whole], sides.select(whole), replicates=replicates, seed=seed
        )
        for threshold in (find_threshold(fitted, rate), held_out)
    )
    weights = weigh_pairs_equally(sides.speakers)
    points = calibration.find_false_match_points(llr, weights, length)
    return Promise(rate, own, measured, points)


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group of trials on whole recordings: impostors accepted and genuine callers rejected,
    before and after; `short` says where it falls short after, "" if nowhere."""

    by: str
    name: str
    targets: int
    nontargets: int
    before: tuple[Rate, Rate] | None
    after: tuple[Rate, Rate]
    short: str


def measure_groups(
    trials: LabelledTrials, before: Decided, after: Decided, rate: float, seed: int
) -> Iterator[GroupRow]:
    """Yield a row for each group of each breakdown with enough trials of both kinds."""
    whole = trials.is_whole
    target, sides = trials.target[whole], trials.sides.select(whole)
    if after.margin is None:
        return
    overall = float(np.mean(after.margin[whole][target] < 0))

    def measure(decided: Decided, keep: NDArray[np.bool_]) -> tuple[Rate, Rate] | None:
        if decided.margin is None:
            return None
        margin = decided.margin[whole][keep]
        return measure_error_rates(
            margin, target[keep], sides.select(keep), 0.0, replicates=GROUP_REPLICATES, seed=seed
        )

    for by, masks in breakdowns.break_down(trials.whole):
        for name, keep in masks.items():
            targets = int(target[keep].sum())
            nontargets = int(keep.sum()) - targets
            rates = None
            if min(targets, nontargets) >= MIN_TRIALS:
                rates = measure(after, keep)
            if rates is not None:
                short = _say_short(rates, rate, overall)
                yield GroupRow(by, name, targets, nontargets, measure(before, keep), rates, short)


def _say_short(rates: tuple[Rate, Rate], promised: float, overall: float) -> str:
    fmr, fnmr = rates
    said = []
    if fmr.interval is not None and fmr.interval.low > promised:
        said.append("accepts more impostors than promised")
    if fnmr.interval is not None and fnmr.interval.low > overall:
        said.append("rejects more genuine callers than the rest")
    return ", ".join(said)


def _measure_eer(trials: LabelledTrials, scores: Floats) -> float:
    whole = trials.is_whole
    target = trials.target[whole]
    return metrics.eer(Sweep.of(scores[whole][target], scores[whole][~target]))
