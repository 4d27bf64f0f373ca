"""The trials that a request asks for."""

from __future__ import annotations

from pathlib import Path

from evaluation.errors import EvaluationError
from evaluation.experiments.request import Request
from evaluation.trials import labels, lists, manifest, trials
from evaluation.trials.manifest import Clip
from evaluation.trials.trials import Trials


def read_trials(request: Request) -> Trials:
    """Read or pair the trials that a request asks for; ListError if a list is wrong."""
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
