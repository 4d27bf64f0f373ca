"""The main command's flow: a model and a manifest or list in, assessments and files out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation import assessment, baseline, embeddings, lists, manifest, scores, trials
from evaluation.assessment import Assessment
from evaluation.cache import Cache
from evaluation.embeddings import System, Voices
from evaluation.errors import EvaluationError
from evaluation.manifest import Clip
from evaluation.served import Served
from evaluation.trials import Trials
from service.session import Device
from service.speech import VoiceActivity


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


def read_trials(request: Request) -> Trials:
    """The trials that a request asks for; ListError where a list is wrong."""
    known: tuple[Clip, ...] | None = None
    if request.manifest is not None:
        known = manifest.read(request.manifest, request.split)
    if request.listed is not None:
        return _listed(request.listed, request, known)
    if known is None:
        raise EvaluationError("give --manifest, or --trials with --audio")
    return trials.pairs(
        known, limit=request.max_trials, seed=request.seed, across_corpora=request.across_corpora
    )


def _listed(path: Path, request: Request, known: tuple[Clip, ...] | None) -> Trials:
    lines = list(lists.read(path))
    models = None if request.enrolments is None else lists.enrolments(request.enrolments)
    if known is None:
        by_name = lists.unlisted(path, lines, models, audio=request.audio or Path())
    else:
        by_name = {clip.name: clip for clip in known}
    return lists.trials(path, lines, by_name, models)


async def run(request: Request) -> tuple[Assessment, Assessment | None]:
    """The model's assessment and, where asked for, the yardstick's on the trials it could score."""
    asked = read_trials(request)
    with Cache.open(request.cache) as cache:
        async with Served.open(request.model, device=request.device) as model:
            voices = await embeddings.embed(model, asked.clips, cache)
            contract = model.contract
        judged = _assess(request, model, asked, voices)
        if not request.baseline:
            return judged, None
        yardstick = baseline.MfccStatistics(
            VoiceActivity.open(), rate=contract.sample_rate, min_speech_s=contract.min_speech_s
        )
        voices = await embeddings.embed(yardstick, asked.clips, cache, label="MFCC baseline")
    kept = judged.scored.trials
    return judged, _assess(request, yardstick, kept, baseline.standardised(voices), calibrate=False)


def _assess(
    request: Request, system: System, asked: Trials, voices: Voices, *, calibrate: bool = True
) -> Assessment:
    return assessment.assess(
        system.model_id,
        scores.score(asked, voices),
        assessment.data_digest(asked, voices),
        calibrate=calibrate,
        replicates=request.replicates,
        seed=request.seed,
    )
