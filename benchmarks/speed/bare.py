"""The parts of the service called in a loop, without a server around them.

session   windows -> embeddings
streamed  calls -> decode -> voice activity -> windows -> embeddings
pipeline  clips -> decode -> voice activity -> windows -> embeddings
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.speed.callers import RATE, Load
from benchmarks.speed.clips import Clip, Samples
from service.audio.codecs import Mulaw
from service.audio.decoding import AudioFormat, StreamDecoder
from service.audio.quality import SAMPLE_RATE
from service.audio.speech import VoiceActivity, extract
from service.audio.stream import AudioStream
from service.audio.windows import cut
from service.contract import Contract
from service.inference.session import Session

BATCHES = (1, 2, 4, 8, 16)

_READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Form:
    """How a loop is made: windows in a batch, threads that share one, and loops side by side."""

    batch: int
    threads: int
    loops: int

    def __str__(self) -> str:
        return f"{self.loops} loop(s) of batches of {self.batch} on {self.threads} thread(s)"


@dataclass(frozen=True, slots=True)
class Rate:
    """Windows a second, and the cores that they took."""

    windows: float
    cores: float


def list_forms(cores: int) -> list[Form]:
    """List one loop with all the cores, and a loop for each core, at every size of batch."""
    ways = {(cores, 1), (1, cores)}
    return [Form(batch, *way) for way in sorted(ways) for batch in BATCHES]


def find_best_form(model: Path, cores: int, seconds: float) -> Form:
    """Find the form in which the session does most windows a second."""
    return max(list_forms(cores), key=lambda form: measure_session(model, form, seconds).windows)


def measure_session(model: Path, form: Form, seconds: float) -> Rate:
    """Measure the session alone, on a window that is made once."""
    session = _session(model, form)
    shape = form.batch, session.contract.window_samples
    windows = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)

    def loop() -> Iterator[int]:
        while True:
            session.run(windows)
            yield form.batch

    return _measure_rate(loop, form.loops, seconds)


def measure_pipeline(
    model: Path, form: Form, clips: Sequence[Clip], seconds: float, heard_by: Path | None = None
) -> Rate:
    """Measure decoding, voice activity and inference of clips whose windows share batches.

    `heard_by` is a voice-activity model to use instead of the service's."""
    session, vad = _session(model, form), VoiceActivity.open(heard_by)
    starts = itertools.count()

    def loop() -> Iterator[int]:
        waiting = np.empty((0, session.contract.window_samples), np.float32)
        start = next(starts) * len(clips) // form.loops
        for clip in itertools.cycle([*clips[start:], *clips[:start]]):
            waiting = np.concatenate([waiting, cut_windows(session.contract, vad, clip.samples())])
            while len(waiting) >= form.batch:
                session.run(waiting[: form.batch])
                waiting = waiting[form.batch :]
                yield form.batch

    return _measure_rate(loop, form.loops, seconds)


def measure_costs_s(
    model: Path, cores: int, clips: Sequence[Clip], repeats: int, pause_s: float
) -> Samples:
    """Measure the seconds `(clips,)` from the bytes of a clip to its embeddings on an idle machine.

    A thread for each core takes its share of the windows. Before each clip there is a pause, so
    that cores fall asleep and caches go cold as they do between requests."""
    session, vad = Session.open(model, device="cpu", threads=1), VoiceActivity.open()
    taken_s = np.empty((repeats, len(clips)), np.float32)
    with ThreadPoolExecutor(cores) as threads:
        for repeat, (index, clip) in itertools.product(range(repeats), enumerate(clips)):
            time.sleep(pause_s)
            began_s = time.perf_counter()
            found = cut_windows(session.contract, vad, clip.samples())
            shares = np.array_split(found, cores)
            list(threads.map(session.run, (share for share in shares if len(share))))
            taken_s[repeat, index] = time.perf_counter() - began_s
    return np.asarray(np.median(taken_s, axis=0), np.float32)


def measure_streamed_s(model: Path, load: Load) -> float:
    """Measure the seconds of a core for a second of the load's calls.

    One call after the other is decoded and searched for speech as a whole; then its windows are
    embedded one at a time."""
    session, vad = Session.open(model, device="cpu", threads=1), VoiceActivity.open()

    def hear(audio: bytes) -> None:
        decoder = StreamDecoder(AudioFormat(Mulaw, RATE), rate=SAMPLE_RATE, max_s=len(audio) / RATE)
        for window in AudioStream(decoder, vad, session.contract).finish(audio).whole:
            session.run(window[np.newaxis])

    calls = [b"".join(load.sent(number)) for number in range(load.calls)]
    hear(calls[0])
    began_s = time.process_time()
    for audio in calls:
        hear(audio)
    return (time.process_time() - began_s) / (load.calls * load.call_s)


def cut_windows(contract: Contract, vad: VoiceActivity, samples: Samples) -> Samples:
    """Cut `samples (n,)` into the windows `(k, window_samples)` that the service makes of them."""
    speech = extract(vad, samples).samples
    if len(speech) < contract.min_speech_samples:
        speech = speech[:0]
    return cut(speech, window_samples=contract.window_samples, hop_samples=contract.hop_samples)


def _session(model: Path, form: Form) -> Session:
    return Session.open(model, device="cpu", threads=form.threads, max_batch=form.batch)


def _measure_rate(loop: Callable[[], Iterator[int]], loops: int, seconds: float) -> Rate:
    """Run `loops` threads and sum what they yield in a second, once each has yielded a first
    time."""
    ready = threading.Barrier(loops)

    def follow(_: int) -> Rate:
        steps = loop()
        next(steps)
        ready.wait(_READY_S)
        done, began_s, cpu_s = 0, time.perf_counter(), time.process_time()
        while (taken_s := time.perf_counter() - began_s) < seconds:
            done += next(steps)
        return Rate(done / taken_s, (time.process_time() - cpu_s) / taken_s)

    with ThreadPoolExecutor(loops) as threads:
        rates = list(threads.map(follow, range(loops)))
    return Rate(sum(rate.windows for rate in rates), max(rate.cores for rate in rates))
