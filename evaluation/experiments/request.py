"""What an experiment is asked to measure, and the trials that this means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import EvaluationError
from evaluation.trials import labels, lists, manifest, trials
from evaluation.trials.manifest import Clip
from evaluation.trials.trials import Trials
from service.inference.session import Device


@dataclass(frozen=True, slots=True)
class Request:
    """A model and its trials: clips of `manifest` and `split`, or the list `listed` under `audio`.

    `same` and `different` are columns of the manifest in which both sides must agree or differ.
    """

    model: Path
    manifest: Path | None
    split: str | None
    cache: Path | None
    listed: Path | None = None
    audio: Path | None = None
    device: Device = "auto"
    max_trials: int = 2_000_000
    across_corpora: bool = False
    baseline: bool = True
    replicates: int = 200
    seed: int = 0
    enrollments: Path | None = None
    same: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    cross_channel: bool = False


def read_trials(request: Request) -> Trials:
    """The trials that a request asks for; ListError if a list is wrong."""
    known: tuple[Clip, ...] | None = None
    if request.manifest is not None:
        known = manifest.read(request.manifest, request.split)
    if request.listed is not None:
        chosen = _read_list(request.listed, request, known)
    elif known is not None:
        chosen = trials.make_pairs(
            known,
            limit=request.max_trials,
            seed=request.seed,
            across_corpora=request.across_corpora or "corpus" in request.different,
        )
    else:
        raise EvaluationError("give --manifest, or --trials with --audio")
    return labels.filter_trials(chosen, same=request.same, different=request.different)


def _read_list(path: Path, request: Request, known: tuple[Clip, ...] | None) -> Trials:
    listed = lists.read(path)
    models = None if request.enrollments is None else lists.read_enrollments(request.enrollments)
    if known is None:
        by_name = lists.make_clips(path, listed, models, audio=request.audio or Path())
    else:
        by_name = {clip.name: clip for clip in known}
    return lists.make_trials(path, listed, by_name, models)
