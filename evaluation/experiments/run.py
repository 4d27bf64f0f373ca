"""The main command's flow: a model and a manifest or list in, an assessment and a document out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.degrade import channels
from evaluation.degrade.channels import CrossChannel
from evaluation.errors import EvaluationError
from evaluation.report import assessment, document
from evaluation.report.assessment import Assessment
from evaluation.report.document import Document
from evaluation.scoring import baseline, embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import System, Voices
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import labels, lists, manifest, trials
from evaluation.trials.manifest import Clip
from evaluation.trials.sampling import Shard
from evaluation.trials.trials import Trials
from service.audio.speech import VoiceActivity
from service.contract import Contract
from service.inference.session import Device


@dataclass(frozen=True, slots=True)
class Request:
    """What to evaluate: clips by `manifest` and `split`, or a `listed` file under `audio`."""

    model: Path
    manifest: Path | None
    split: str | None
    listed: Path | None
    audio: Path | None
    cache: Path | None
    device: Device = "auto"
    max_trials: int = 2_000_000
    across_corpora: bool = False
    baseline: bool = True
    replicates: int = 200
    seed: int = 0
    enrolments: Path | None = None
    same: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    cross_channel: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The model's assessment, the yardstick's where asked for, and the document of both."""

    judged: Assessment
    yardstick: Assessment | None
    document: Document


@dataclass(frozen=True, slots=True)
class Heard:
    """The voices of both sides: the same, unless each side has its own channel."""

    enrolled: Voices
    tested: Voices


def read_trials(request: Request) -> Trials:
    """The trials that a request asks for; ListError where a list is wrong."""
    known: tuple[Clip, ...] | None = None
    if request.manifest is not None:
        known = manifest.read(request.manifest, request.split)
    if request.listed is not None:
        asked = _listed(request.listed, request, known)
    elif known is not None:
        asked = trials.make_pairs(
            known,
            limit=request.max_trials,
            seed=request.seed,
            across_corpora=request.across_corpora or "corpus" in request.different,
        )
    else:
        raise EvaluationError("give --manifest, or --trials with --audio")
    return labels.filter_trials(asked, same=request.same, different=request.different)


async def run(request: Request) -> Outcome:
    """Evaluate the model and, where asked for, the yardstick on the trials it could score."""
    asked = read_trials(request)
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            contract = model.contract
            mfcc = baseline.MfccStatistics(
                VoiceActivity.open(), rate=contract.sample_rate, min_speech_s=contract.min_speech_s
            )
            heard = await listen(
                request, [model, mfcc] if request.baseline else [model], asked, cache
            )
        judged = _assess(request, model, asked, heard[0])
        yardstick = None
        for plain in heard[1:]:
            both = Heard(*baseline.standardize(plain.enrolled, plain.tested))
            yardstick = _assess(request, mfcc, judged.scored.trials, both)
    return Outcome(judged, yardstick, _document(request, judged, yardstick, contract))


async def embed_share(request: Request, shard: Shard) -> int:
    """Fill the cache with one machine's share of the clips; returns how many that were."""
    asked = read_trials(request)
    share = shard.of(asked.clips)
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            for treatment in _channels(request):
                await embeddings.embed(model, share, cache, treatment=treatment)
    return len(share)


async def listen(
    request: Request, systems: Sequence[System], asked: Trials, cache: Cache
) -> list[Heard]:
    """The voices of both sides of `asked` by each system, through channels of their own where
    asked for."""
    sides = [
        await embeddings.embed_each(systems, asked.clips, cache, treatment=treatment)
        for treatment in _channels(request)
    ]
    return [Heard(*each) for each in zip(sides[0], sides[-1], strict=True)]


def _channels(request: Request) -> tuple[CrossChannel | None, ...]:
    if not request.cross_channel:
        return (None,)
    return tuple(CrossChannel(request.seed, side, channels.ANY) for side in ("enrol", "test"))


def _listed(path: Path, request: Request, known: tuple[Clip, ...] | None) -> Trials:
    listed = lists.read(path)
    models = None if request.enrolments is None else lists.read_enrollments(request.enrolments)
    if known is None:
        by_name = lists.make_clips(path, listed, models, audio=request.audio or Path())
    else:
        by_name = {clip.name: clip for clip in known}
    return lists.make_trials(path, listed, by_name, models)


def _assess(request: Request, system: System, asked: Trials, heard: Heard) -> Assessment:
    return assessment.assess(
        system.model_id,
        scores.score(asked, heard.enrolled, heard.tested),
        assessment.hash_data(asked, heard.enrolled),
        replicates=request.replicates,
        seed=request.seed,
    )


def _document(
    request: Request, judged: Assessment, yardstick: Assessment | None, contract: Contract
) -> Document:
    return {
        **document.make_head(request.seed, request.replicates, _source(request), _made(request)),
        "systems": [
            document.describe_system(one) for one in (judged, yardstick) if one is not None
        ],
        **document.describe_details(judged, replicates=request.replicates, seed=request.seed),
        "contract": document.describe_contract(contract),
    }


def _source(request: Request) -> str:
    named = [str(path) for path in (request.manifest, request.listed) if path is not None]
    return " and ".join(named) + (f", split {request.split}" if request.split else "")


def _made(request: Request) -> str:
    parts = [f"those of {request.listed.name}"] if request.listed else []
    if request.listed is None:
        within = request.across_corpora or "corpus" in request.different
        parts.append("pairs of clips" + (", also across corpora" if within else " of one corpus"))
    parts += [f"with the same {column}" for column in request.same]
    parts += [f"with a different {column}" for column in request.different]
    if request.cross_channel:
        parts.append("each side through a simulated channel of its own")
    return ", ".join(parts)
