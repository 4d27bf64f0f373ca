"""Whether a model's promised false-match rate holds in each condition.

At the model's operating point: how many impostors are accepted and how many enrolled speakers are
rejected when a recorder, line or codec impairs the test side, or both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.degrade.impairments import CLEAN, Impaired
from evaluation.degrade.treatment import Treatment
from evaluation.experiments.operating_point import measure_at_operating_point, read_promise
from evaluation.experiments.request import Request
from evaluation.experiments.trial_selection import read_trials
from evaluation.metrics.error_rates import Rate
from evaluation.report import document
from evaluation.report.document import Document
from evaluation.scoring import embeddings
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import Voices
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials.trials import Trials
from service.contract import Contract

NAME = "promises.json"


@dataclass(frozen=True, slots=True)
class PromiseRow:
    """A row of the report: one condition on one side or on both, at the operating point.

    `accepted` are impostors, `rejected` enrolled speakers, each of the average pair of speakers.
    `not_heard` is the share of clips with too little speech, `snr_db` the median that the service
    measured.
    """

    condition: str
    both_sides: bool
    accepted: Rate
    rejected: Rate
    not_heard: float
    snr_db: float
    holds: bool


async def measure(request: Request, conditions: Sequence[str]) -> Document:
    """Measure every condition at the operating point of the request's model.

    Raises EvaluationError for a model that promises nothing: without calibration or operating
    point.
    """
    treatments = {name: Impaired(name, request.seed) for name in conditions if name != CLEAN}
    trials = read_trials(request)
    rows = []
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            contract = model.contract
            rate, threshold = read_promise(contract)

            async def embed(treatment: Treatment | None, label: str) -> Voices:
                return await embeddings.embed(
                    model, trials.clips, cache, treatment=treatment, label=label
                )

            clean = await embed(None, CLEAN)
            sides = [(CLEAN, False, clean, clean)]
            for name, treatment in treatments.items():
                impaired = await embed(treatment, name)
                sides += [(name, False, clean, impaired), (name, True, impaired, impaired)]
            for name, both_sides, enrolled, test in sides:
                rows.append(
                    _measure_row(request, trials, contract, name, both_sides, enrolled, test)
                )
    head = document.make_head(request.seed, request.replicates, str(request.manifest), "")
    return {**head, "system": contract.model_id, "promised": rate, "llr": threshold, "rows": rows}


def _measure_row(
    request: Request,
    trials: Trials,
    contract: Contract,
    condition: str,
    both_sides: bool,
    enrolled: Voices,
    test: Voices,
) -> PromiseRow:
    scored, rates = measure_at_operating_point(request, trials, contract, enrolled, test)
    accepted = rates.accepted
    least = accepted.value if accepted.interval is None else accepted.interval.low
    return PromiseRow(
        condition,
        both_sides,
        accepted,
        rates.rejected,
        scored.failure_to_acquire,
        float(np.median(scored.measures.snr_db)),
        holds=least <= rates.promised,
    )
