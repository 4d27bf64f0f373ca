"""Error rates in a grid of conditions: the test side degraded, the enrolled side as recorded."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.degrade.conditions import Condition, Degradation
from evaluation.errors import EvaluationError
from evaluation.experiments.request import Request
from evaluation.metrics import figures
from evaluation.report import document
from evaluation.report.document import Document
from evaluation.scoring import embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest, sampling, trials
from service.audio.speech import VoiceActivity

NAME = "conditions.json"


async def measure(request: Request, conditions: Sequence[Condition], *, clips: int) -> Document:
    """Measure each condition on the pairs of `clips` clips, drawn evenly over the speakers."""
    if request.manifest is None:
        raise EvaluationError("conditions need --manifest")
    sample = sampling.sample_balanced(
        manifest.read(request.manifest, request.split), clips, seed=request.seed
    )
    pairs = trials.make_pairs(sample, limit=request.max_trials, seed=request.seed)
    rows = []
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            vad = VoiceActivity.open()
            enrolled = await embeddings.embed(model, sample, cache, label="enrolled side")
            for condition in conditions:
                test = await embeddings.embed(
                    model,
                    sample,
                    cache,
                    treatment=Degradation(condition, vad, request.seed),
                    label=f"{condition.channel}, {condition.length}",
                )
                rows.append(_measure_row(request, condition, scores.score(pairs, enrolled, test)))
            system = model.model_id
    description = (
        f"{len(sample)} clips of {len({clip.speaker for clip in sample})} speakers, their first"
        " seconds of net speech (clips with less are heard whole)"
    )
    trials_made = "pairs of clips of one corpus"
    head = document.make_head(request.seed, request.replicates, str(request.manifest), trials_made)
    return {**head, "system": system, "told": description, "cells": rows}


def parse_lengths(text: str) -> list[float | None]:
    """`1,2,full` as seconds, None for full; EvaluationError on anything else."""
    return [None if part == "full" else _parse_number(part) for part in text.split(",")]


def parse_noises(text: str) -> list[float | None]:
    """`clean,20,10` as decibels, None for clean; EvaluationError on anything else."""
    return [None if part == "clean" else _parse_number(part) for part in text.split(",")]


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise EvaluationError(f"{text!r} is neither a number nor `full` or `clean`") from error


def _measure_row(request: Request, condition: Condition, scored: scores.ScoredTrials) -> Document:
    row = figures.measure(
        scored.measures.cosine,
        scored.trials.target,
        scored.trials.sides(),
        replicates=request.replicates,
        seed=request.seed,
    )
    return {
        "length": condition.length,
        "channel": condition.channel,
        "failure_to_acquire": scored.failure_to_acquire,
        "figures": row,
    }
