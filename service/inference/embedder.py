"""Embedder: samples to one embedding, whole or as they come.

    samples > voice activity > windows > batcher > sum > L2
              └── thread pool ───────┘   └ one for all streams

A whole recording is a stream of one piece. Nothing here blocks the event loop.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.audio.quality import SAMPLE_RATE, UNSUSPICIOUS, Quality, Suspicions
from service.audio.speech import SpeechDetector, VoiceActivity
from service.audio.windows import WindowAccumulator, cut
from service.contract import Contract
from service.decisions.scoring import l2_normalized
from service.decisions.voice_count import Parts, split
from service.errors import ContractError, SaysoError
from service.inference.batcher import Batcher, BatchReport
from service.inference.session import Embeddings, Session
from service.inference.threads import Threads

Samples: TypeAlias = NDArray[np.float32]  # (n,)
Embedding: TypeAlias = NDArray[np.float32]  # (dimension,)
Infer: TypeAlias = Callable[[Sequence[Samples]], Awaitable[Sequence[Embedding]]]

LATEST_WINDOWS = 2
_SHORT_AT_ONCE = 16
NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Utterance:
    """`embedding` is the L2-normalised mean over `windows`, None when there was less net speech
    than the contract asks for. `coherence` is the mean cosine between two of the windows, None
    when there are fewer than two. `parts` are of an utterance that is to be enrolled: the two of it
    that are least alike. `also` is the same speech in the space of another model."""

    embedding: Embedding | None
    quality: Quality
    windows: int
    coherence: float | None = None
    model_id: str = ""
    also: "Utterance | None" = None
    parts: Parts | None = None

    def within(self, model_id: str) -> "Utterance":
        """The utterance in the space of that model."""
        if self.model_id == model_id:
            return self
        assert self.also is not None, "it was heard in every space that it is compared in"
        return self.also.within(model_id)


class Stream(Protocol):
    """An utterance as it comes; what it gives is explained at `EmbedStream`."""

    @property
    def quality(self) -> Quality: ...

    @property
    def net_speech_s(self) -> float: ...

    @property
    def windows(self) -> int: ...

    @property
    def latest(self) -> Embedding | None: ...

    @property
    def latest_s(self) -> float: ...

    def suspect(self, suspicions: Suspicions) -> None: ...

    async def push(self, samples: Samples) -> None: ...

    async def take(self, decode: Callable[[], Samples]) -> None: ...

    async def decode(self, block: Callable[[], Samples | None]) -> Samples | None: ...

    async def finish(self, samples: Samples = ...) -> Utterance: ...

    async def so_far(self) -> Utterance: ...


class EmbedStream:
    """One utterance as it comes, in memory that does not grow with it.

    One call at a time; after one has raised, the stream is of no more use.
    """

    def __init__(
        self,
        contract: Contract,
        vad: VoiceActivity,
        pool: Threads,
        infer: Infer,
        *,
        owner: str = "",
        enrolling: bool = False,
    ) -> None:
        self._contract = contract
        self._detector = SpeechDetector(vad)
        self._accumulator = WindowAccumulator(contract.window_samples, contract.hop_samples)
        self._pool = pool
        self._infer = infer
        self._owner = owner
        short = max(2, contract.window_samples // 2)
        self._short = WindowAccumulator(short, short // 2) if enrolling else None
        self._unheard: list[Samples] = []  # short windows that are not embedded yet
        self._turns: list[Embedding] = []  # of short windows
        self._speech_samples = 0
        self._sum = np.full(contract.dimension, 0.0)  # np.zeros would let go of the interpreter
        self._suspicions = UNSUSPICIOUS
        self._windows = 0
        self._latest: deque[Embedding] = deque(maxlen=LATEST_WINDOWS)
        self._taken: list[Samples] | None = None  # windows of what was decoded here

    @property
    def quality(self) -> Quality:
        """Of what was pushed so far."""
        measured = self._detector.quality
        if self._suspicions is UNSUSPICIOUS:
            return measured
        return replace(measured, suspicions=self._suspicions)

    @property
    def net_speech_s(self) -> float:
        """As in `quality`, and quicker."""
        return self._detector.net_speech_s

    @property
    def windows(self) -> int:
        """How many whole windows there were so far."""
        return self._windows

    @property
    def latest(self) -> Embedding | None:
        """The L2-normalised mean of the last `LATEST_WINDOWS` whole windows, once there are
        as many: who speaks now."""
        if len(self._latest) < LATEST_WINDOWS:
            return None
        return l2_normalized(np.stack(self._latest).mean(axis=0))

    @property
    def latest_s(self) -> float:
        """Seconds of speech behind `latest`."""
        return self._contract.window_s + (LATEST_WINDOWS - 1) * self._contract.hop_s

    def suspect(self, suspicions: Suspicions) -> None:
        """Notes what the decoder of the samples noticed, for `quality`."""
        self._suspicions = suspicions

    async def push(self, samples: Samples) -> None:
        """Takes the next `samples (n,)` at the contract's rate, and embeds the windows they
        complete; raises what `Batcher.submit_all` raises."""
        if samples.size:  # resampled audio comes in blocks, and a trip to a thread is not free
            await self._add(await self._pool.run(self._hear, samples, owner=self._owner))

    async def take(self, decode: Callable[[], Samples]) -> None:
        """Takes the last samples `(n,)`, as `decode` gives them in a thread, for `finish` to embed:
        `quality` is of all of them by then. Raises what `decode` does."""
        self._taken = await self._pool.run(lambda: self._conclude(decode()), owner=self._owner)

    async def decode(self, block: Callable[[], Samples | None]) -> Samples | None:
        """What `block` gives, called in a thread when it is the turn of this stream's owner."""
        return await self._pool.run(block, owner=self._owner)

    async def finish(self, samples: Samples = NOTHING) -> Utterance:
        """Takes the last `samples (n,)`, unless `take` has, and embeds all that is left; to be
        called once."""
        windows, self._taken = self._taken, None
        if windows is None:
            windows = await self._pool.run(self._conclude, samples, owner=self._owner)
        await self._add(windows)
        return self._utterance(self._sum, self._windows)

    async def so_far(self) -> Utterance:
        """What the whole windows give, or before the first one what `finish` would give now."""
        if self._windows or not self._enough:
            return self._utterance(self._sum, self._windows)
        ending = await self._infer(list(self._ending()))
        return self._utterance(np.stack(ending).astype(np.float64).sum(axis=0), len(ending))

    def _utterance(self, total: NDArray[np.float64], windows: int) -> Utterance:
        model_id = self._contract.model_id
        if not math.isfinite(total.sum()):
            raise SaysoError("the model gave an embedding that is not finite")
        if not windows or not self._enough:
            return Utterance(None, self.quality, windows, model_id=model_id)
        pairs = windows * (windows - 1)
        coherence = (float(total @ total) - windows) / pairs if pairs else None
        mean = l2_normalized(total.astype(np.float32))
        parts = split(self._turns)
        return Utterance(mean, self.quality, windows, coherence, model_id, parts=parts)

    async def _add(self, new: list[Samples]) -> None:
        for embedding in await self._infer(new):
            self._sum += embedding
            self._latest.append(embedding)
        self._windows += len(new)
        unheard, self._unheard = self._unheard, []
        for start in range(0, len(unheard), _SHORT_AT_ONCE):
            some = unheard[start : start + _SHORT_AT_ONCE]
            repeated = [np.resize(each, self._contract.window_samples) for each in some]
            self._turns.extend(await self._infer(repeated))

    def _hear(self, samples: Samples) -> list[Samples]:
        return self._complete(self._detector.push(samples))

    def _conclude(self, samples: Samples) -> list[Samples]:
        whole = [*self._hear(samples), *self._complete(self._detector.finish())]
        return [*whole, *self._ending()] if self._enough else whole

    def _complete(self, speech: Samples) -> list[Samples]:
        self._speech_samples += speech.size
        if self._short is not None:
            self._unheard.extend(self._short.push(speech))
        return list(self._accumulator.push(speech))

    @property
    def _enough(self) -> bool:
        return self._speech_samples >= self._contract.min_speech_samples

    def _ending(self) -> Samples:
        """The last window; of speech too short for one, windows of the longest allowed length
        that it fills or else, repeated, of the shortest."""
        tail, hop = self._accumulator.tail(), self._contract.hop_samples
        lengths = sorted((*self._contract.short_windows, self._contract.window_samples))
        length = max((n for n in lengths if n <= self._speech_samples), default=lengths[0])
        if length == self._contract.window_samples:
            return tail
        speech = tail[0, : self._speech_samples]  # the tail starts with all of it
        return cut(speech, window_samples=length, hop_samples=min(hop, length))


class Embedder:
    """Embeds many utterances at once; enter it with `async with`.

    `max_batch`, `queue_limit`, `max_delay_s`, `workers` and `observe` are the `Batcher`'s,
    `speech_threads` find speech. `owner` says whose a new stream is; owners take turns in threads
    and batches. Raises `ContractError` for a model at another rate than the voice activity's.
    """

    def __init__(
        self,
        session: Session,
        vad: VoiceActivity,
        *,
        max_batch: int,
        queue_limit: int,
        max_delay_s: float = 0.0,
        workers: int = 1,
        speech_threads: int = 2,
        observe: Callable[[BatchReport], None] | None = None,
        owner: Callable[[], str] = lambda: "",
    ) -> None:
        if session.contract.sample_rate != SAMPLE_RATE:
            raise ContractError(
                f"the model works at {session.contract.sample_rate} Hz, this server at "
                f"{SAMPLE_RATE} Hz only; train and export one at that rate"
            )

        def run(windows: Sequence[Samples]) -> Embeddings:
            return session.run(np.stack(windows))

        self.contract = session.contract
        self._vad = vad
        self._owner = owner
        self._share = min(max_batch * workers, queue_limit)
        self._pool = Threads(speech_threads, name="speech")
        self._batcher = Batcher[Samples, Embedding](
            run,
            key=len,
            max_batch=max_batch,
            queue_limit=queue_limit,
            max_delay_s=max_delay_s,
            workers=workers,
            observe=observe,
        )

    @property
    def queue_depth(self) -> int:
        """Windows that wait for the device."""
        return self._batcher.queue_depth

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finishes the windows that wait."""
        try:
            await self._batcher.__aexit__()
        finally:
            self._pool.close()

    async def embed(self, samples: Samples) -> Utterance:
        """The utterance in `samples (n,)` at the contract's rate."""
        return await self.stream().finish(samples)

    def stream(self, *, enrolling: bool = False) -> EmbedStream:
        """One that is `enrolling` embeds windows of half the length too, for `parts`."""
        owner = self._owner()
        infer = partial(self._infer, owner)
        return EmbedStream(
            self.contract, self._vad, self._pool, infer, owner=owner, enrolling=enrolling
        )

    async def _infer(self, owner: str, windows: Sequence[Samples]) -> list[Embedding]:
        """As much as the workers take at a time, so that a long recording neither fills the queue
        nor holds it up."""
        embeddings: list[Embedding] = []
        for start in range(0, len(windows), self._share):
            share = windows[start : start + self._share]
            embeddings += await self._batcher.submit_all(share, owner=owner)
        return embeddings
