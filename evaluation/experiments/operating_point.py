"""A model's error rates at its own operating point, which a server uses by default."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.errors import EvaluationError
from evaluation.experiments.request import Request
from evaluation.metrics.error_rates import Rate, measure_error_rates
from evaluation.scoring import calibration, scores
from evaluation.scoring.embeddings import Voices
from evaluation.scoring.scores import ScoredTrials
from evaluation.trials.trials import Trials
from service.contract import Contract, ScoreKind
from service.decisions.thresholds import false_match_threshold


@dataclass(frozen=True, slots=True)
class OperatingPointRates:
    """The promised false-match rate with its LLR threshold, and the rates measured there.

    `accepted` are impostors, `rejected` enrolled speakers, each of the average pair of speakers.
    """

    promised: float
    llr: float
    accepted: Rate
    rejected: Rate


def read_promise(contract: Contract) -> tuple[float, float]:
    """The false-match rate of the operating point, and its LLR threshold.

    Raises EvaluationError for a model that promises nothing: without calibration or operating
    point.
    """
    if contract.calibration is None or contract.operating_point is None:
        raise EvaluationError(
            f"{contract.model_id} promises nothing: it has no calibration; run"
            " `sayso-export calibrate`"
        )
    rate = contract.operating_point.target_false_match_rate
    return rate, false_match_threshold(contract.calibration, rate)


def measure_at_operating_point(
    request: Request, trials: Trials, contract: Contract, enrolled: Voices, test: Voices
) -> tuple[ScoredTrials, OperatingPointRates]:
    """Score the trials as the model's calibration does, and measure at its operating point.

    Raises EvaluationError like `read_promise`.
    """
    promised, threshold = read_promise(contract)
    assert contract.calibration is not None, "read_promise() refuses a model without"
    cohort = contract.cohort if contract.calibration.score is ScoreKind.AS_NORM else None
    scored = scores.score(trials, enrolled, test, cohort=cohort)
    llr = calibration.apply_calibration(contract.calibration, scored.measures)
    accepted, rejected = measure_error_rates(
        llr,
        scored.trials.target,
        scored.trials.sides(),
        threshold,
        replicates=request.replicates,
        seed=request.seed,
    )
    return scored, OperatingPointRates(promised, threshold, accepted, rejected)
