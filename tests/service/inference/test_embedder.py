import asyncio
import gc
import random
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.audio.speech import VoiceActivity, extract
from service.audio.windows import cut
from service.errors import ContractError, Overloaded, SaysoError
from service.inference.embedder import Embedder, Utterance
from service.inference.session import Session

Samples = NDArray[np.float32]
SaveModel = Callable[..., Path]
RATE = 16_000


class Watched(Session):
    """Remembers what it ran, and in which threads; waits while it is held."""

    def __init__(self, *given: object, **options: int) -> None:
        super().__init__(*given, **options)  # type: ignore[arg-type]
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self.going = threading.Event()
        self.going.set()

    def run(self, windows: Samples) -> Samples:
        self.shapes.append(windows.shape)
        self.threads.add(threading.get_ident())
        assert self.going.wait(10)
        return super().run(windows)


@pytest.fixture
def watched(save_model: SaveModel) -> Watched:
    watched = Watched.open(save_model(), device="cpu", threads=1)
    watched.shapes.clear()
    watched.threads.clear()
    return watched


def build(session: Session, vad: VoiceActivity, **options: int) -> Embedder:
    return Embedder(session, vad, **{"max_batch": 4, "queue_limit": 100, **options})  # type: ignore[arg-type]


def naive(session: Session, speech: Samples, length: int | None = None) -> Samples:
    """The embedding of speech, one window after another."""
    contract = session.contract
    length = length or contract.window_samples
    windows = cut(speech, window_samples=length, hop_samples=min(length, contract.hop_samples))
    mean: Samples = np.mean([session.run(window[None])[0] for window in windows], axis=0)
    mean /= np.linalg.norm(mean)
    return mean


def cosine(left: Samples | None, right: Samples | None) -> float:
    assert left is not None
    assert right is not None
    assert np.linalg.norm(left) == pytest.approx(1, abs=1e-5)
    return float(left @ right)


async def stream_of(embedder: Embedder, samples: Samples, seed: int) -> Utterance:
    chance = random.Random(seed)
    stream = embedder.open_stream()
    start = 0
    while start < len(samples):
        size = chance.choice([0, 1, 160, 1_000, 8_000, 40_000])
        await stream.push(samples[start : start + size])
        start += size
    return await stream.finish()


# --- one utterance -------------------------------------------------------------------------------


async def test_an_embedding_is_the_mean_of_the_windows_of_speech(
    session: Session, vad: VoiceActivity, clips: list[Samples]
) -> None:
    async with build(session, vad) as embedder:
        for clip in clips:
            utterance = await embedder.embed(clip)
            speech = extract(vad, clip)
            assert cosine(utterance.embedding, naive(session, speech.samples)) >= 0.99999
            assert utterance.quality == speech.quality


@pytest.mark.parametrize("seed", range(6))
async def test_any_chunking_gives_the_same_embedding(
    session: Session, vad: VoiceActivity, clips: list[Samples], seed: int
) -> None:
    clip = np.concatenate(clips[seed % 2 :])
    async with build(session, vad) as embedder:
        whole = await embedder.embed(clip)
        streamed = await stream_of(embedder, clip, seed)
    assert cosine(streamed.embedding, whole.embedding) >= 0.9999
    assert replace(streamed, embedding=None) == replace(whole, embedding=None)
    assert whole.windows > 2


async def test_a_stream_tells_its_embedding_so_far(
    watched: Watched, vad: VoiceActivity, clips: list[Samples]
) -> None:
    clip, window, hop = np.concatenate(clips), 2 * RATE, RATE
    speech = extract(vad, clip).samples
    told = set()
    async with build(watched, vad) as embedder:
        stream = embedder.open_stream()
        for start in range(0, len(clip), 2_000):
            await stream.push(clip[start : start + 2_000])
            if stream.windows and stream.windows not in told:
                told.add(stream.windows)
                heard = speech[: window + (stream.windows - 1) * hop]
                utterance = await stream.so_far()
                assert cosine(utterance.embedding, naive(watched, heard)) >= 0.99999
        assert stream.quality.total_s == pytest.approx(len(clip) / RATE)
    assert told == set(range(1, max(told) + 1))
    assert len(told) > 5


@pytest.mark.parametrize("samples", [0, 100, 3 * RATE])
async def test_without_speech_there_is_no_embedding(
    watched: Watched, vad: VoiceActivity, samples: int
) -> None:
    async with build(watched, vad) as embedder:
        utterance = await embedder.embed(np.zeros(samples, np.float32))
    assert utterance.embedding is None
    assert utterance.windows == 0
    assert utterance.quality.total_s == samples / RATE
    assert watched.shapes == []


async def test_too_little_speech_costs_no_inference(
    save_model: SaveModel, vad: VoiceActivity, clips: list[Samples]
) -> None:
    path = save_model(changed={"min_speech_samples": RATE, "short_windows": (RATE // 2,)})
    session = Watched.open(path, device="cpu", threads=1)
    session.shapes.clear()
    async with build(session, vad) as embedder:
        utterance = await embedder.embed(clip_with_speech(vad, clips[0], 0.5))
    assert utterance.embedding is None
    assert utterance.quality.net_speech_s >= 0.5
    assert session.shapes == []


@pytest.mark.parametrize(("missing", "embedded"), [(0, True), (1, False)])
async def test_the_contracts_least_speech_is_the_limit(
    save_model: SaveModel, vad: VoiceActivity, clips: list[Samples], missing: int, embedded: bool
) -> None:
    speech_samples = extract(vad, clips[0]).samples.size
    path = save_model(changed={"min_speech_samples": speech_samples + missing})
    async with build(Session.open(path, device="cpu", threads=1), vad) as embedder:
        for utterance in (await embedder.embed(clips[0]), await stream_of(embedder, clips[0], 0)):
            assert (utterance.embedding is not None) is embedded


@pytest.mark.parametrize(
    ("heard_s", "length_s"), [(0.8, 0.75), (1.6, 1.5), (2.5, 1.5), (0.45, 0.75), (3.5, 3.0)]
)
async def test_short_speech_takes_the_longest_allowed_window_that_it_fills(
    save_model: SaveModel,
    vad: VoiceActivity,
    clips: list[Samples],
    heard_s: float,
    length_s: float,
) -> None:
    lengths = {"window_samples": 3 * RATE, "short_windows": (3 * RATE // 2, 3 * RATE // 4)}
    path = save_model(changed={**lengths, "min_speech_samples": RATE // 5})
    session = Watched.open(path, device="cpu", threads=1)
    session.shapes.clear()
    clip = clip_with_speech(vad, clips[0], heard_s)
    async with build(session, vad) as embedder:
        utterance = await embedder.embed(clip)
    assert {samples for _, samples in session.shapes} == {int(length_s * RATE)}
    expected = naive(session, extract(vad, clip).samples, int(length_s * RATE))
    assert cosine(utterance.embedding, expected) >= 0.99999


def clip_with_speech(vad: VoiceActivity, clip: Samples, speech_s: float) -> Samples:
    """The shortest start of a clip that holds so much net speech."""
    for samples in range(0, len(clip), 1_024):
        if extract(vad, clip[:samples]).quality.net_speech_s >= speech_s:
            return clip[:samples]
    raise AssertionError("the clip holds too little speech")


# --- many utterances -----------------------------------------------------------------------------


@pytest.mark.parametrize("max_batch", [1, 3, 16])
async def test_utterances_do_not_depend_on_what_they_are_batched_with(
    session: Session, vad: VoiceActivity, clips: list[Samples], max_batch: int
) -> None:
    pieces = [clip[start:] for clip in clips for start in (0, RATE)]
    async with build(session, vad, max_batch=max_batch) as embedder:
        alone = [await embedder.embed(piece) for piece in pieces]
        together = await asyncio.gather(*(embedder.embed(piece) for piece in pieces))
    for one, other in zip(alone, together, strict=True):
        assert cosine(one.embedding, other.embedding) >= 0.99999
    assert cosine(alone[0].embedding, alone[-1].embedding) < 0.9999


@pytest.mark.parametrize("seed", range(2))
async def test_random_cancellation_never_hands_out_anothers_embedding(
    session: Session, vad: VoiceActivity, clips: list[Samples], seed: int
) -> None:
    chance = random.Random(seed)
    pieces = [chance.choice(clips)[chance.randrange(3 * RATE) :] for _ in range(16)]
    async with build(session, vad) as embedder:
        expected = [await embedder.embed(piece) for piece in pieces]
        tasks = [asyncio.create_task(embedder.embed(piece)) for piece in pieces]
        for task in chance.sample(tasks, 8):
            await asyncio.sleep(chance.uniform(0, 0.01))
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    finished = 0
    for utterance, outcome in zip(expected, outcomes, strict=True):
        if isinstance(outcome, Utterance):
            finished += 1
            assert cosine(outcome.embedding, utterance.embedding) >= 0.99999
        else:
            assert isinstance(outcome, asyncio.CancelledError)
    assert finished >= 8


async def test_a_recording_longer_than_the_queue_is_embedded(
    watched: Watched, vad: VoiceActivity, clips: list[Samples]
) -> None:
    clip = np.concatenate(clips)
    async with build(watched, vad, queue_limit=2) as embedder:
        utterance = await embedder.embed(clip)
    assert utterance.windows > 10
    assert max(batch for batch, _ in watched.shapes) == 2
    assert cosine(utterance.embedding, naive(watched, extract(vad, clip).samples)) >= 0.99999


async def test_a_full_queue_refuses_the_newcomer_only(
    watched: Watched, vad: VoiceActivity, clips: list[Samples]
) -> None:
    clip = clip_with_speech(vad, clips[0], 1.0)  # one window
    async with build(watched, vad, queue_limit=1, max_batch=1) as embedder:
        watched.going.clear()
        running = asyncio.create_task(embedder.embed(clip))
        await until(lambda: bool(watched.shapes))
        waiting = asyncio.create_task(embedder.embed(clip))
        await until(lambda: embedder.queue_depth > 0)
        with pytest.raises(Overloaded):
            await embedder.embed(clip)
        watched.going.set()
        assert (await running).embedding is not None
        assert (await waiting).embedding is not None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_neither_voice_activity_nor_inference_runs_on_the_event_loop(
    watched: Watched, clips: list[Samples]
) -> None:
    class WatchedActivity(VoiceActivity):
        threads: set[int]

        def estimate_speech(self, frames: Samples, state: object) -> object:  # type: ignore[override]
            self.threads = {*getattr(self, "threads", ()), threading.get_ident()}
            return super().estimate_speech(frames, state)  # type: ignore[arg-type]

    vad = WatchedActivity.open()
    vad.threads = set()
    async with build(watched, vad) as embedder:
        await embedder.embed(clips[0])
        await stream_of(embedder, clips[1], 0)
    assert watched.threads
    assert vad.threads
    assert threading.get_ident() not in watched.threads | vad.threads


async def test_a_stream_does_not_grow_with_its_length(
    watched: Watched, vad: VoiceActivity, clips: list[Samples]
) -> None:
    piece = clips[0][: 5 * RATE]
    async with build(watched, vad) as embedder:
        stream = embedder.open_stream()

        async def bytes_after(pushes: int) -> int:
            for _ in range(pushes):
                await stream.push(piece)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        await bytes_after(4)
        tracemalloc.start()
        try:
            growth = -await bytes_after(4) + await bytes_after(16)
        finally:
            tracemalloc.stop()
    assert (
        growth < 4 * piece.nbytes
    )  # sixteen were pushed; other threads of the tests allocate, too


# --- mistakes ------------------------------------------------------------------------------------


async def test_an_embedding_that_is_not_finite_fails_its_own_utterance(
    watched: Watched, vad: VoiceActivity, clips: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = extract(vad, clips[0]).samples[: 2 * RATE]

    def run(windows: Samples) -> Samples:
        embeddings = Session.run(watched, windows)
        embeddings[(windows == marked).all(axis=1)] = np.nan
        return embeddings

    monkeypatch.setattr(watched, "run", run)
    async with build(watched, vad) as embedder:
        bad, *good = await asyncio.gather(
            *(embedder.embed(clip) for clip in clips), return_exceptions=True
        )
    assert isinstance(bad, SaysoError)
    assert all(isinstance(utterance, Utterance) for utterance in good)


def test_a_model_of_another_rate_is_refused(save_model: SaveModel, vad: VoiceActivity) -> None:
    session = Session.open(save_model(changed={"sample_rate": 8_000}), device="cpu", threads=1)
    with pytest.raises(ContractError, match="8000 Hz"):
        build(session, vad)


async def test_so_far_is_what_the_end_would_give_before_the_first_window(
    session: Session, vad: VoiceActivity, clips: list[Samples]
) -> None:
    short = clips[0][: session.contract.window_samples]
    async with Embedder(session, vad, max_batch=4, queue_limit=64) as embedder:
        stream = embedder.open_stream()
        await stream.push(short)
        assert stream.windows == 0
        early = await stream.so_far()
        ended = await stream.finish()
    assert early.embedding is not None
    assert ended.embedding is not None
    assert float(early.embedding @ ended.embedding) > 0.95


async def test_coherence_is_the_mean_cosine_between_windows(
    session: Session, vad: VoiceActivity, clips: list[Samples]
) -> None:
    speech = extract(vad, np.concatenate(clips[:2])).samples
    contract = session.contract
    windows = cut(speech, window_samples=contract.window_samples, hop_samples=contract.hop_samples)
    vectors = session.run(windows).astype(np.float64)
    pairs = [vectors[i] @ vectors[j] for i in range(len(vectors)) for j in range(i)]
    async with Embedder(session, vad, max_batch=4, queue_limit=64) as embedder:
        stream = embedder.open_stream()
        heard = await stream.finish(np.concatenate(clips[:2]))
        latest = stream.latest
    assert heard.coherence == pytest.approx(float(np.mean(pairs)), abs=1e-4)
    assert latest is not None
    expected = vectors[-2:].mean(axis=0)
    assert latest @ expected / np.linalg.norm(expected) == pytest.approx(1, abs=1e-4)
