"""A model's promise, condition by condition: how many impostors pass its operating point, and how
many owners do not, when recorders, lines and codecs do what they do to the heard side, or to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.degrade.impairments import CLEAN, Impaired
from evaluation.degrade.treatment import Treatment
from evaluation.errors import EvaluationError
from evaluation.experiments.run import Request, read_trials
from evaluation.metrics import bootstrap
from evaluation.metrics.bootstrap import Interval, Sides
from evaluation.report import document
from evaluation.report.document import Document
from evaluation.scoring import calibration, embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import Voices
from evaluation.scoring.measures import Measures, design
from evaluation.scoring.served import Served
from evaluation.trials.trials import Trials
from service.contract import Calibration, Contract, ScoreKind
from service.decisions.decision import false_match_threshold

NAME = "promises.json"


@dataclass(frozen=True, slots=True)
class Rate:
    """The share of the average pair of speakers, or speaker, with its 95% interval."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Row:
    """One condition on one side or on both: impostors accepted and owners rejected, of whom
    `not_heard` had too little speech in it; `snr_db` is the median that the service measured."""

    condition: str
    both_sides: bool
    accepted: Rate
    rejected: Rate
    not_heard: float
    snr_db: float
    holds: bool


async def measure(request: Request, conditions: Sequence[str]) -> Document:
    """Every condition at the operating point of `request.model`, on the trials that it asks for.

    EvaluationError for a model that promises nothing: it has no calibration or no operating point.
    """
    treatments = {name: Impaired(name, request.seed) for name in conditions if name != CLEAN}
    asked = read_trials(request)
    rows = []
    with Cache.open(request.cache) as cache:
        async with Served.open(request.model, device=request.device) as model:
            contract = model.contract
            rate, threshold = promised(contract)

            async def heard(treatment: Treatment | None, label: str) -> Voices:
                return await embeddings.embed(
                    model, asked.clips, cache, treatment=treatment, label=label
                )

            plain = await heard(None, CLEAN)
            sides = [(CLEAN, False, plain, plain)]
            for name, treatment in treatments.items():
                impaired = await heard(treatment, name)
                sides += [(name, False, plain, impaired), (name, True, impaired, impaired)]
            for name, both, enrolled, tested in sides:
                rows.append(_row(request, asked, contract, threshold, name, both, enrolled, tested))
    head = document.head(request.seed, request.replicates, str(request.manifest), "")
    return {**head, "system": contract.model_id, "promised": rate, "llr": threshold, "rows": rows}


def promised(contract: Contract) -> tuple[float, float]:
    """The false-match rate of the operating point, and its likelihood ratio."""
    if contract.calibration is None or contract.operating_point is None:
        raise EvaluationError(
            f"{contract.model_id} promises nothing: it has no calibration; run"
            " `sayso-export calibrate`"
        )
    rate = contract.operating_point.target_false_match_rate
    return rate, false_match_threshold(contract.calibration, rate)


def ratios(fitted: Calibration, measures: Measures) -> NDArray[np.float64]:
    """The log-likelihood ratios (n,) that the service would tell."""
    terms = tuple(fitted.weights)
    weights = np.array([fitted.weights[term] for term in terms])
    ratio: NDArray[np.float64] = design(measures, terms) @ weights + fitted.bias
    return ratio


def _row(
    request: Request,
    asked: Trials,
    contract: Contract,
    threshold: float,
    condition: str,
    both_sides: bool,
    enrolled: Voices,
    tested: Voices,
) -> Row:
    assert contract.calibration is not None, "promised() refuses a model without"
    normaliser = contract.cohort if contract.calibration.score is ScoreKind.AS_NORM else None
    scored = scores.score(asked, enrolled, tested, cohort=normaliser)
    target, sides = scored.trials.target, scored.trials.sides()
    llr = ratios(contract.calibration, scored.measures)
    accepted, rejected = rates(llr, target, sides, threshold, request.replicates, request.seed)
    rate = promised(contract)[0]
    least = accepted.value if accepted.interval is None else accepted.interval.low
    return Row(
        condition,
        both_sides,
        accepted,
        rejected,
        scored.failure_to_acquire,
        float(np.median(scored.measures.snr_db)),
        holds=least <= rate,
    )


def rates(
    llr: NDArray[np.float64],
    target: NDArray[np.bool_],
    sides: Sides,
    threshold: float,
    replicates: int,
    seed: int,
) -> tuple[Rate, Rate]:
    """False matches and false non-matches of ratios (n,) at `threshold`; every pair of speakers
    weighs the same."""
    shares = calibration.equal_shares((sides.speaker[sides.enrol], sides.speaker[sides.test]))
    passed = llr >= threshold
    values = (
        float(np.average(passed[~target], weights=shares[~target])),
        float(np.average(~passed[target], weights=shares[target])),
    )
    if not replicates:
        return Rate(values[0], None), Rate(values[1], None)
    sides = sides.compact()
    draws = sides.draw(replicates, np.random.default_rng(seed))
    grid = np.array([threshold])
    curves = bootstrap.resample(llr, target, sides, draws, grid=grid, shares=shares)
    intervals = (bootstrap.interval(drawn[1]) for drawn in (curves.fmr, curves.fnmr))
    accepted, rejected = (Rate(*pair) for pair in zip(values, intervals, strict=True))
    return accepted, rejected
