"""Calls: clips of a speaker joined to recordings, and decided on as the service does.

clips ─> one recording that enrolls, and calls ─> service.calls.call ─> a step for each decision
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.scoring.embeddings import MAX_S, Samples
from evaluation.trials.manifest import Clip, Speaker
from service.audio import decoding
from service.calls.running_decision import RunningDecision
from service.calls.verification import Verifier
from service.decisions.policy import Policy
from service.decisions.scoring import UNKNOWN_SNR_DB
from service.inference.embedder import Embedder, Utterance

PIECE_S = 0.1
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds of audio of an enrollment and of a call, and the most calls of one speaker."""

    enrol_s: float = 8.0
    call_s: float = 13.0
    calls: int = 4


@dataclass(frozen=True, slots=True)
class Step:
    """A call at a moment at which the service would decide.

    The embedding (dim,) is of all speech so far, `speech_s` its seconds.
    """

    embedding: NDArray[np.float32]
    speech_s: float
    snr_db: float


@dataclass(frozen=True, slots=True)
class Caller:
    """A speaker's enrollment and calls; the last step of a call is at its end."""

    speaker: Speaker
    enrolled: Step
    calls: tuple[tuple[Step, ...], ...]


async def hear_callers(
    embedder: Embedder, clips: Sequence[Clip], policy: Policy, plan: Plan, *, seed: int = 0
) -> tuple[Caller, ...]:
    """Feed the service the calls of all speakers with enough audio for an enrollment and a call.

    `policy` says when the service decides.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    callers = await asyncio.gather(
        *(_make_caller(embedder, own, policy, plan, seed, gate) for own in _group_by_speaker(clips))
    )
    return tuple(caller for caller in callers if caller is not None)


async def _make_caller(
    embedder: Embedder,
    clips: Sequence[Clip],
    policy: Policy,
    plan: Plan,
    seed: int,
    gate: asyncio.Semaphore,
) -> Caller | None:
    async with gate:
        joined = await asyncio.to_thread(
            join_recordings, clips, plan, embedder.contract.sample_rate, seed
        )
        if len(joined) < 2:
            return None
        enrolled = _step(await embedder.embed(joined[0]))
        calls = [await _list_steps(embedder, samples, policy) for samples in joined[1:]]
    complete = tuple(steps for steps in calls if steps)
    if enrolled is None or not complete:
        return None
    return Caller(clips[0].speaker, enrolled, complete)


async def _list_steps(embedder: Embedder, samples: Samples, policy: Policy) -> tuple[Step, ...]:
    call = RunningDecision(embedder.open_stream(), Verifier(embedder.contract), None, policy)
    size = int(PIECE_S * embedder.contract.sample_rate)
    steps = []
    for piece in np.split(samples, range(size, len(samples), size)):
        if await call.hear(piece) is not None:
            steps.append(_step(call.utterance))
    await call.finish()
    steps.append(_step(call.utterance))
    return tuple(step for step in steps if step is not None)


def _step(utterance: Utterance) -> Step | None:
    quality = utterance.quality
    if utterance.embedding is None:
        return None
    snr_db = UNKNOWN_SNR_DB if quality.snr_db is None else quality.snr_db
    return Step(utterance.embedding, quality.net_speech_s, snr_db)


def _group_by_speaker(clips: Sequence[Clip]) -> Iterator[tuple[Clip, ...]]:
    speakers: dict[Speaker, list[Clip]] = {}
    for clip in clips:
        speakers.setdefault(clip.speaker, []).append(clip)
    return (tuple(own) for _, own in sorted(speakers.items()))


def join_recordings(clips: Sequence[Clip], plan: Plan, rate: int, seed: int) -> list[Samples]:
    """Join the clips, in a seeded order, to an enrollment and as many calls as they last for."""
    order = np.random.default_rng(seed).permutation(len(clips))
    pieces = (_decode(clips[index], rate) for index in order)
    lengths = [plan.enrol_s, *[plan.call_s] * plan.calls]
    joined: list[Samples] = []
    for length_s in lengths:
        taken: list[Samples] = []
        while sum(map(len, taken)) < length_s * rate:
            if (piece := next(pieces, None)) is None:
                return joined
            taken.append(piece)
        joined.append(np.concatenate(taken))
    return joined


def _decode(clip: Clip, rate: int) -> Samples:
    return decoding.decode(clip.file.read_bytes(), decoding.AudioFormat(), rate=rate, max_s=MAX_S)
