"""Embedder: turns audio, whole or piece by piece, into one embedding.

    bytes -> AudioStream -> windows -> batcher -> sum -> L2-normalize
             └ thread pool ─────┘      └ one for all streams

A whole recording is a stream of one piece. Nothing here blocks the event loop.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.audio.decoding import StreamDecoder
from service.audio.formats import AudioFormat
from service.audio.quality import SAMPLE_RATE, Quality
from service.audio.speech import VoiceActivity
from service.audio.stream import AudioStream, DecodedAudio, Windows
from service.contract import Contract
from service.decisions.scoring import l2_normalize
from service.decisions.voice_count import Parts, split_voices
from service.errors import ContractError, SaysoError
from service.inference.batcher import Batcher, BatchReport
from service.inference.session import Embeddings, Session
from service.inference.threads import Threads

Samples: TypeAlias = NDArray[np.float32]  # (n,)
Embedding: TypeAlias = NDArray[np.float32]  # (dimension,)
Infer: TypeAlias = Callable[[Sequence[Samples]], Awaitable[Sequence[Embedding]]]

Audio: TypeAlias = bytes | Samples
"""Bytes in the format of the stream's source or, without one, samples at the model's rate."""

LATEST_WINDOWS = 2
_HALVES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Utterance:
    """What a model made of some speech.

    `embedding (dimension,)` is the L2-normalized mean over `windows`, None if there was less net
    speech than the contract asks for. `coherence` is the mean cosine between two of the windows,
    None with fewer than two. `parts` are the two least alike parts of an utterance to be enrolled.
    `also` is the same speech embedded with another model.
    """

    embedding: Embedding | None
    quality: Quality
    windows: int
    coherence: float | None = None
    model_id: str = ""
    also: "Utterance | None" = None
    parts: Parts | None = None

    def for_model(self, model_id: str) -> "Utterance":
        """Return the utterance as embedded with that model."""
        if self.model_id == model_id:
            return self
        assert self.also is not None, "a stream embeds with every model that it is compared by"
        return self.also.for_model(model_id)


def _charge_nobody(audio_s: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class AudioSource:
    """The format of a stream's bytes, and its limit of `max_s` seconds.

    `charge` is called on the event loop with the seconds that were decoded; it raises to refuse
    them. With 0 seconds it tells whether any would be accepted.
    """

    format: AudioFormat
    max_s: float = math.inf
    charge: Callable[[float], None] = _charge_nobody

    def without_charge(self) -> "AudioSource":
        """Return the same source for a second model, so that the audio is charged once."""
        return AudioSource(self.format, self.max_s)


class Stream(Protocol):
    """Embeds an utterance piece by piece, as `EmbedStream` explains."""

    @property
    def block_bytes(self) -> int: ...

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

    async def push(self, audio: Audio) -> None: ...

    async def finish(self, audio: Audio | None = None) -> Utterance: ...

    async def so_far(self) -> Utterance: ...


class EmbedStream:
    """Embeds one utterance piece by piece, in memory that does not grow with its length.

    Each push runs from bytes to windows as one job in a thread. One call at a time; do not use the
    stream after a call has raised.
    """

    def __init__(
        self,
        contract: Contract,
        audio: AudioStream,
        pool: Threads,
        infer: Infer,
        *,
        owner: str = "",
        charge: Callable[[float], None] = _charge_nobody,
    ) -> None:
        self._contract = contract
        self._audio = audio
        self._pool = pool
        self._infer = infer
        self._owner = owner
        self._charge = charge
        self._charged_s = 0.0
        self._half_windows: list[Embedding] = []
        self._sum = np.full(contract.dimension, 0.0)  # np.zeros would release the GIL
        self._windows = 0
        self._latest: deque[Embedding] = deque(maxlen=LATEST_WINDOWS)

    @property
    def block_bytes(self) -> int:
        """How many bytes to collect for a push, about 100 ms of audio."""
        return self._audio.block_bytes

    @property
    def quality(self) -> Quality:
        """The quality of what was pushed so far."""
        return self._audio.quality

    @property
    def net_speech_s(self) -> float:
        """As in `quality`, but quick to read."""
        return self._audio.net_speech_s

    @property
    def windows(self) -> int:
        """The number of whole windows so far."""
        return self._windows

    @property
    def latest(self) -> Embedding | None:
        """The L2-normalized mean of the last `LATEST_WINDOWS` whole windows, which is of who speaks
        now; None with fewer windows."""
        if len(self._latest) < LATEST_WINDOWS:
            return None
        return l2_normalize(np.stack(self._latest).mean(axis=0))

    @property
    def latest_s(self) -> float:
        """Seconds of speech behind `latest`."""
        return self._contract.window_s + (LATEST_WINDOWS - 1) * self._contract.hop_s

    async def push(self, audio: Audio) -> None:
        """Take the next audio, and embed the windows that it completes.

        Raises `AudioError`, and what `Batcher.submit_all` and `charge` raise.
        """
        windows = await self._pool.run(self._audio.push, audio, owner=self._owner)
        self._charge_decoded()
        await self._embed(windows)

    async def finish(self, audio: Audio | None = None) -> Utterance:
        """Take the last audio, which may be all of it, and embed all that is left; call once."""
        self._charge(0.0)
        windows = await self._pool.run(self._audio.finish, audio, owner=self._owner)
        self._charge_decoded()
        await self._embed(windows)
        return self._make_utterance(self._sum, self._windows)

    async def so_far(self) -> Utterance:
        """Return the utterance of the whole windows or, before the first one, what `finish` would
        return now."""
        if self._windows or not self._audio.has_enough_speech:
            return self._make_utterance(self._sum, self._windows)
        last = await self._infer(list(self._audio.cut_last_windows()))
        return self._make_utterance(np.stack(last).astype(np.float64).sum(axis=0), len(last))

    def _charge_decoded(self) -> None:
        total_s = self._audio.total_s
        self._charge(total_s - self._charged_s)
        self._charged_s = total_s

    def _make_utterance(self, total: NDArray[np.float64], windows: int) -> Utterance:
        model_id = self._contract.model_id
        if not math.isfinite(total.sum()):
            raise SaysoError("the model gave an embedding that is not finite")
        if not windows or not self._audio.has_enough_speech:
            return Utterance(None, self.quality, windows, model_id=model_id)
        pairs = windows * (windows - 1)
        coherence = (float(total @ total) - windows) / pairs if pairs else None
        mean = l2_normalize(total.astype(np.float32))
        parts = split_voices(self._half_windows)
        return Utterance(mean, self.quality, windows, coherence, model_id, parts=parts)

    async def _embed(self, windows: Windows) -> None:
        for embedding in await self._infer(windows.whole):
            self._sum += embedding
            self._latest.append(embedding)
        self._windows += len(windows.whole)
        for start in range(0, len(windows.halves), _HALVES_AT_ONCE):
            halves = windows.halves[start : start + _HALVES_AT_ONCE]
            repeated = [np.resize(half, self._contract.window_samples) for half in halves]
            self._half_windows.extend(await self._infer(repeated))


class Embedder:
    """Embeds many utterances at once; enter it with `async with`.

    `max_batch`, `queue_limit`, `max_delay_s`, `workers` and `observe` are as in `Batcher`. Speech
    is found in `speech_threads` threads. `owner` returns the owner of a new stream; owners take
    turns in threads and batches. Raises `ContractError` for a model at another rate than the voice
    activity's.
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
        self._portion = min(max_batch * workers, queue_limit)
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
        """The number of windows that wait for the device."""
        return self._batcher.queue_depth

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish the windows that wait."""
        try:
            await self._batcher.__aexit__()
        finally:
            self._pool.close()

    async def embed(self, samples: Samples) -> Utterance:
        """Embed `samples (n,)` at the contract's rate."""
        return await self.open_stream().finish(samples)

    def open_stream(
        self, source: AudioSource | None = None, *, enrolling: bool = False
    ) -> EmbedStream:
        """Open a stream of the source's audio or, without one, of samples at the contract's rate.
        With `enrolling` it also embeds windows of half the length, for `Utterance.parts`."""
        owner = self._owner()
        decoder = DecodedAudio() if source is None else self._make_decoder(source)
        return EmbedStream(
            self.contract,
            AudioStream(decoder, self._vad, self.contract, halves=enrolling),
            self._pool,
            partial(self._infer, owner),
            owner=owner,
            charge=_charge_nobody if source is None else source.charge,
        )

    def _make_decoder(self, source: AudioSource) -> StreamDecoder:
        return StreamDecoder(source.format, rate=self.contract.sample_rate, max_s=source.max_s)

    async def _infer(self, owner: str, windows: Sequence[Samples]) -> list[Embedding]:
        """Embed `windows` in portions that the workers take at once, so that a long recording
        neither fills the queue nor delays others."""
        embeddings: list[Embedding] = []
        for start in range(0, len(windows), self._portion):
            portion = windows[start : start + self._portion]
            embeddings += await self._batcher.submit_all(portion, owner=owner)
        return embeddings
