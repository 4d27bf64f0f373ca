"""Measure whether a server's memory stays flat under all kinds of calls at once.

    python -m benchmarks.speed.soak [--minutes 10] [--store sqlite --store redis]

Writes benchmarks/results/soak.json and exits 1 unless memory stays flat on every store. Callers
stream, verify recordings of any length, enrol, hang up at any moment and delete, and the server's
resident memory is sampled. Flat is what grew over the second half by less than 1% of itself, or not
surely: the slope is Sen's, the median of those between all pairs of samples, with the 95% interval
of Kendall's rank statistic (Sen 1968).
"""

import argparse
import itertools
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sayso import Aborted, Client, FailedPrecondition, NotFound, Overloaded, RawAudio, SaysoError

from benchmarks.figures import Figure, below, figure, merge
from benchmarks.processes import resident_mb
from benchmarks.speed.streaming import read_call_audio
from service.settings import SHIPPED_MODEL
from tests.support.redis_server import RedisServer
from tests.support.sayso_server import SaysoServer

RAW = RawAudio("MULAW", 8000)
PEOPLE = 20
CALLERS = 6
SAMPLES = 120
FLAT = 0.01
HANG_UPS = 0.3
MESSAGES_BYTES = (160, 800, 4000)
EXPECTED = (Aborted, FailedPrecondition, NotFound, Overloaded)  # of calls that cross each other


@dataclass(slots=True)
class Caller:
    """Makes one random kind of call after another, on a random voice, until `stop` is set."""

    sayso: Client
    audio: bytes
    chance: random.Random
    done: Counter[str]

    def talk(self, stop: threading.Event) -> None:
        kinds: list[Callable[[str], None]] = [self.stream, self.verify, self.enroll, self.delete]
        while not stop.is_set():
            (kind,) = self.chance.choices(kinds, weights=(6, 4, 3, 1))
            try:
                kind(f"voice-{self.chance.randrange(PEOPLE)}")
                self.done[kind.__name__] += 1
            except EXPECTED as error:
                self.done[type(error).__name__] += 1
            except SaysoError as error:
                self.done[f"FAILED {error}"] += 1

    def draw_audio(self, longest_s: float) -> bytes:
        """Draw a piece of the audio, of any length."""
        size = int(8000 * self.chance.uniform(0.05, longest_s))
        start = self.chance.randrange(len(self.audio) - size)
        return self.audio[start : start + size]

    def stream(self, speaker_id: str) -> None:
        step = self.chance.choice(MESSAGES_BYTES)
        audio = self.draw_audio(20)
        pieces = (audio[at : at + step] for at in range(0, len(audio), step))
        results = self.sayso.verify_stream(speaker_id, pieces, raw=RAW, continuous=True)
        heard = self.chance.randrange(5) if self.chance.random() < HANG_UPS else None
        for _ in itertools.islice(results, heard):
            pass

    def verify(self, speaker_id: str) -> None:
        self.sayso.verify(speaker_id, self.draw_audio(15), raw=RAW)

    def enroll(self, speaker_id: str) -> None:
        self.sayso.enroll(speaker_id, self.draw_audio(15), raw=RAW)

    def delete(self, speaker_id: str) -> None:
        self.sayso.speakers.delete(speaker_id)


@contextmanager
def open_sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/sayso.db"


@contextmanager
def start_redis(folder: Path) -> Iterator[str]:
    with RedisServer(folder) as running:
        yield running.url


STORES = {"sqlite": open_sqlite, "redis": start_redis}


def soak(store: str, model: Path, seconds: float) -> tuple[np.ndarray, Counter[str]]:
    """Run the calls; return samples (n, 2) of seconds and resident MB, and counts of each
    outcome."""
    stop, done = threading.Event(), Counter[str]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(STORES[store](folder))
        server = stack.enter_context(
            SaysoServer(store=url, model=model, lock_after_failures=0, log_level="warning")
        )
        pool = stack.enter_context(ThreadPoolExecutor(CALLERS))
        stack.callback(stop.set)
        talks = []
        for number in range(CALLERS):
            sayso = stack.enter_context(server.client(timeout_s=120))
            caller = Caller(sayso, read_call_audio(), random.Random(number), done)  # noqa: S311
            talks.append(pool.submit(caller.talk, stop))
        samples = sample_memory(server.process.pid, seconds)
        stop.set()
        for talk in talks:
            talk.result()
    return samples, done


def sample_memory(pid: int, seconds: float) -> np.ndarray:
    began_s = time.monotonic()
    samples = []
    for number in range(1, SAMPLES + 1):
        time.sleep(max(0.0, began_s + seconds * number / SAMPLES - time.monotonic()))
        samples.append((time.monotonic() - began_s, resident_mb(pid)))
    return np.array(samples)


def estimate_slope(samples: np.ndarray) -> tuple[float, float, float]:
    """Estimate the slope of the second column of `samples` (n, 2): Sen's median, low and high."""
    earlier, later = np.triu_indices(len(samples), k=1)
    run, rise = (samples[later] - samples[earlier]).T
    slopes = np.sort(rise / run)
    count = len(samples)
    reach = 1.96 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low, high = (int((len(slopes) + sign * reach) / 2) for sign in (-1, 1))
    return (
        float(np.median(slopes)),
        float(slopes[max(low, 0)]),
        float(slopes[min(high, -1 + len(slopes))]),
    )


def judge(store: str, samples: np.ndarray, done: Counter[str]) -> tuple[list[Figure], bool]:
    """Make the figures of a store, and say whether its memory is flat and nothing failed."""
    second = samples[len(samples) // 2 :]
    slope, low, high = estimate_slope(second)
    length_s, size_mb = float(np.ptp(second[:, 0])), float(np.median(second[:, 1]))
    growth = slope * length_s / size_mb
    surely = low > 0
    failed = {what: count for what, count in done.items() if what.startswith("FAILED")}
    told = ", ".join(f"{count} {what}" for what, count in sorted(done.items()))
    how = f"second half of {samples[-1, 0] / 60:.1f} minutes on {store}: {told}"
    grown = figure("growth", [100 * growth], "%", below(100 * FLAT), how)
    grown["spread"] = [round(100 * at * length_s / size_mb, 3) for at in (low, high)]
    grown["holds"] = bool(growth <= FLAT or not surely)
    per_minute = figure("slope", [60 * slope], "MB/min", None, how)
    per_minute["spread"] = [round(60 * low, 3), round(60 * high, 3)]
    return [
        grown,
        per_minute,
        figure("resident", second[:, 1].tolist(), "MB", None, f"the server, {how}"),
        figure("failed", [sum(failed.values())], "calls", below(0), "that ended as none should"),
    ], bool(grown["holds"]) and not failed


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="on each store")
    parser.add_argument("--store", choices=STORES, action="append", help="both unless said")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    arguments = parser.parse_args(given)
    flat = True
    for store in arguments.store or STORES:
        samples, done = soak(store, arguments.model.resolve(), 60 * arguments.minutes)
        figures, passed = judge(store, samples, done)
        prefix = f"soak_{store}_"
        merge("soak", prefix, [one | {"name": prefix + one["name"]} for one in figures])
        flat = flat and passed
    print("memory is flat" if flat else "memory grows, or calls failed: see above")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
