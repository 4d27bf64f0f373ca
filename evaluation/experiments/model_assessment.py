"""One model on its trials, beside the baseline.

Request ─> trials ─> voices of both sides ─> scores ─> Assessment ─> document
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.degrade import channels
from evaluation.degrade.channels import CrossChannel
from evaluation.experiments.operating_point import measure_at_operating_point
from evaluation.experiments.request import Request
from evaluation.experiments.trial_selection import read_trials
from evaluation.report import assessment, document
from evaluation.report.assessment import Assessment
from evaluation.report.document import Document
from evaluation.scoring import baseline, embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import System, Voices
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials.sampling import Shard
from evaluation.trials.trials import Trials
from service.audio.speech import VoiceActivity
from service.contract import Contract


@dataclass(frozen=True, slots=True)
class Outcome:
    """The assessments of the model and, if asked for, of the baseline, and the document of both."""

    model: Assessment
    baseline: Assessment | None
    document: Document


@dataclass(frozen=True, slots=True)
class SideVoices:
    """The voices of both sides: the same, unless each side has a channel of its own."""

    enrolled: Voices
    test: Voices


async def run(request: Request) -> Outcome:
    """Assess the model and, if asked for, the baseline on the trials that the model could score."""
    trials = read_trials(request)
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            contract = model.contract
            mfcc = baseline.MfccStatistics(
                VoiceActivity.open(), rate=contract.sample_rate, min_speech_s=contract.min_speech_s
            )
            voices = await embed_sides(
                request, [model, mfcc] if request.baseline else [model], trials, cache
            )
        model_assessment = _assess(request, model, trials, voices[0])
        baseline_assessment = None
        for raw in voices[1:]:
            standardized = SideVoices(*baseline.standardize(raw.enrolled, raw.test))
            scored_trials = model_assessment.scored.trials
            baseline_assessment = _assess(request, mfcc, scored_trials, standardized)
    document = _describe(request, model_assessment, baseline_assessment, contract)
    if contract.calibration is not None and contract.operating_point is not None:
        sides = voices[0].enrolled, voices[0].test
        document["operating_point"] = measure_at_operating_point(request, trials, contract, *sides)[
            1
        ]
    return Outcome(model_assessment, baseline_assessment, document)


async def embed_share(request: Request, shard: Shard) -> int:
    """Fill the cache with one machine's share of the clips; returns how many clips that is."""
    trials = read_trials(request)
    share = shard.select(trials.clips)
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            for treatment in _list_channels(request):
                await embeddings.embed(model, share, cache, treatment=treatment)
    return len(share)


async def embed_sides(
    request: Request, systems: Sequence[System], trials: Trials, cache: Cache
) -> list[SideVoices]:
    """The voices of both sides of the trials by each system.

    With `request.cross_channel` each side comes through a simulated channel of its own.
    """
    sides = [
        await embeddings.embed_each(systems, trials.clips, cache, treatment=treatment)
        for treatment in _list_channels(request)
    ]
    return [SideVoices(*pair) for pair in zip(sides[0], sides[-1], strict=True)]


def _list_channels(request: Request) -> tuple[CrossChannel | None, ...]:
    if not request.cross_channel:
        return (None,)
    return tuple(CrossChannel(request.seed, side, channels.ANY) for side in ("enrol", "test"))


def _assess(request: Request, system: System, trials: Trials, voices: SideVoices) -> Assessment:
    return assessment.assess(
        system.model_id,
        scores.score(trials, voices.enrolled, voices.test),
        assessment.hash_data(trials, voices.enrolled),
        replicates=request.replicates,
        seed=request.seed,
    )


def _describe(
    request: Request, model: Assessment, baseline: Assessment | None, contract: Contract
) -> Document:
    return {
        **document.make_head(
            request.seed, request.replicates, _name_source(request), _describe_trials(request)
        ),
        "systems": [
            document.describe_system(system) for system in (model, baseline) if system is not None
        ],
        **document.describe_details(model, replicates=request.replicates, seed=request.seed),
        "contract": document.describe_contract(contract),
    }


def _name_source(request: Request) -> str:
    named = [str(path) for path in (request.manifest, request.listed) if path is not None]
    return " and ".join(named) + (f", split {request.split}" if request.split else "")


def _describe_trials(request: Request) -> str:
    parts = [f"those of {request.listed.name}"] if request.listed else []
    if request.listed is None:
        within = request.across_corpora or "corpus" in request.different
        parts.append("pairs of clips" + (", also across corpora" if within else " of one corpus"))
    parts += [f"with the same {column}" for column in request.same]
    parts += [f"with a different {column}" for column in request.different]
    if request.cross_channel:
        parts.append("each side through a simulated channel of its own")
    return ", ".join(parts)
