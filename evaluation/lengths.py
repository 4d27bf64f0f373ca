"""Trials at several lengths of the heard side, so that a calibration knows a call's first seconds
as well as its whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation import embeddings, scores
from evaluation.cache import Cache
from evaluation.conditions import Condition, Degraded
from evaluation.embeddings import System
from evaluation.measures import Measures
from evaluation.trials import Trials
from service.speech import VoiceActivity

LENGTHS_S = (1.0, 2.0, 3.0, 5.0, None)

Speakers = tuple[NDArray[np.integer], NDArray[np.integer]]


async def measured(
    system: System,
    asked: Trials,
    cache: Cache,
    *,
    lengths_s: Sequence[float | None] = LENGTHS_S,
    limit: int = 1_000_000,
    seed: int = 0,
) -> tuple[Measures, NDArray[np.bool_], Speakers]:
    """Measures, truth and speakers of the trials, with the first seconds of net speech heard.

    Enrolment is always whole; None is the whole heard side too. A clip that holds no more than a
    length is left out of it. Of each length an equal share of `limit` trials is drawn by `seed`.
    For `calibration.for_contract`.
    """
    vad = VoiceActivity.open()
    whole = await embeddings.embed(system, asked.clips, cache, label="whole clips")
    speaker = np.unique([clip.speaker for clip in asked.clips], return_inverse=True)[1]
    first = np.array([model.clips[0] for model in asked.models])
    parts = []
    for length_s in lengths_s:
        longer = whole.acquired if length_s is None else whole.speech_s > length_s
        kept = _drawn(asked, longer[asked.test], limit // len(lengths_s), seed)
        heard = whole
        if length_s is not None:
            treatment = Degraded(Condition(length_s), vad)
            label = f"first {length_s:g} s"
            heard = await embeddings.embed(
                system, asked.clips, cache, treatment=treatment, label=label
            )
        scored = scores.score(kept, whole, heard)
        sides = (speaker[first][scored.trials.enrol], speaker[scored.trials.test])
        parts.append((scored.measures, scored.trials.target, sides))
    measures, targets, sides = zip(*parts, strict=True)
    one, other = zip(*sides, strict=True)
    return (
        Measures.joined(measures),
        np.concatenate(targets),
        (np.concatenate(one), np.concatenate(other)),
    )


def _drawn(asked: Trials, keep: NDArray[np.bool_], limit: int, seed: int) -> Trials:
    """At most `limit` of the trials marked in `keep`: all targets first, then non-targets."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(keep))
    order = order[np.argsort(~asked.target[order], kind="stable")]
    targets = min(int(asked.target[order].sum()), limit // 2)
    others = order[~asked.target[order]][: limit - targets]
    return asked.select(np.sort(np.concatenate([order[:targets], others])))
