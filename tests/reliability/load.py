"""Load on a server: clients that enrol or verify without pause, and what each was told."""

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import soundfile
from sayso_server import SaysoServer
from voices import clips

from service.client import Client, RawAudio
from service.errors import SaysoError, Unavailable
from service.settings import SHIPPED_MODEL
from service.store import Store

RAW = RawAudio("LINEAR16", 8000)
PATIENCE_S = 30.0
_ENROLMENTS = 5  # of one speaker
_TICK_S = 0.05


def speech() -> bytes:
    """Three seconds of somebody talking, as `RAW`."""
    samples, rate = soundfile.read(clips("slt", "verify")[1], dtype="int16")
    assert rate == RAW.sample_rate
    start = rate // 2
    return bytes(samples[start : start + 3 * rate].tobytes())


def server(store: str, **settings: object) -> SaysoServer:
    """One that starts soon, asks little of an enrolment, and uses one core."""
    chosen = {
        "model": SHIPPED_MODEL,
        "threads": 1,
        "max_batch": 1,
        "speech_threads": 1,
        "min_enroll_speech_s": 0.5,
        "log_level": "warning",
    }
    return SaysoServer(store=store, **(chosen | settings))


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.005)


@dataclass(slots=True)
class Enrolling:
    """Under `with`, threads enrol new speakers, each a few times, until it is left.

    `acknowledged` is the etag after every enrolment that was acknowledged, by speaker; one more of
    a speaker may have been under way when its server ended. `unlike` are errors other than
    Unavailable.
    """

    address: str
    prefix: str
    clients: int = 4
    pause_s: float = 0.0
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    told_s: dict[str, float] = field(default_factory=dict)
    unlike: list[SaysoError] = field(default_factory=list)
    refused: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _some: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [
            threading.Thread(target=self._enrol, args=(number,)) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def count(self) -> int:
        return sum(map(len, list(self.acknowledged.values())))

    def wait_for_one(self) -> None:
        assert self._some.wait(PATIENCE_S), "nothing was acknowledged"

    def _enrol(self, number: int) -> None:
        audio = speech()
        with Client(self.address, timeout_s=PATIENCE_S) as sayso:
            for turn in itertools.count():
                speaker_id = f"{self.prefix}-{number}-{turn}"
                for _ in range(_ENROLMENTS):
                    if self._stop.is_set():
                        return
                    if not self._acknowledged(sayso, speaker_id, audio):
                        break
                    self._stop.wait(self.pause_s)

    def _acknowledged(self, sayso: Client, speaker_id: str, audio: bytes) -> bool:
        try:
            speaker = sayso.enroll(speaker_id, audio, raw=RAW).speaker
        except Unavailable:
            self.refused += 1
            self._stop.wait(_TICK_S)
            return False
        except SaysoError as error:
            self.unlike.append(error)
            return False
        assert speaker is not None
        self.told_s[speaker_id] = time.monotonic()
        self.acknowledged.setdefault(speaker_id, []).append(speaker.etag)
        self._some.set()
        return True


async def kept(store: Store, acknowledged: Mapping[str, list[str]]) -> list[str]:
    """The speakers of whom an acknowledged enrolment is missing; none of the others is torn.

    All enrolments are of the same audio, so all vectors are the same.
    """
    missing = []
    for speaker_id, etags in acknowledged.items():
        speaker = await store.get("default", speaker_id)
        if speaker is None:
            missing.append(speaker_id)
            continue
        (voice,) = speaker.voiceprints.values()
        count = len(voice.vectors)
        assert np.allclose(voice.vectors, voice.vectors[0], atol=1e-5), "a torn voiceprint"
        assert np.allclose(np.linalg.norm(voice.vectors, axis=1), 1, atol=1e-5), "a torn vector"
        assert len(np.unique(voice.speech_s)) == 1, "torn net speech"
        if count < len(etags):
            missing.append(speaker_id)
        elif count == len(etags):
            assert speaker.etag == etags[-1], "another version than was acknowledged"
        else:
            assert count == len(etags) + 1, "more than was asked for"
    return missing


@dataclass(frozen=True, slots=True)
class Answer:
    """When a verification began, seconds that it took, and its outcome or error."""

    began_s: float
    took_s: float
    outcome: str

    @property
    def ended_s(self) -> float:
        return self.began_s + self.took_s


class Verifying:
    """Under `with`, a verification of `speaker_id` begins every twentieth of a second, whatever
    became of those before."""

    def __init__(self, address: str, speaker_id: str) -> None:
        self._client = Client(address, timeout_s=PATIENCE_S)
        self._speaker_id = speaker_id
        self._audio = speech()
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick)
        self.answers: list[Answer] = []

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._ticker.join()
        self._client.close()

    def since(self, began_s: float) -> list[Answer]:
        return [answer for answer in list(self.answers) if answer.began_s >= began_s]

    def wait_for(self, outcome: str, *, since_s: float) -> Answer:
        """The first answer of this outcome to a call that began after `since_s`."""
        wait_until(
            lambda: any(answer.outcome == outcome for answer in self.since(since_s)), outcome
        )
        given = (answer for answer in self.since(since_s) if answer.outcome == outcome)
        return min(given, key=lambda answer: answer.ended_s)

    def _tick(self) -> None:
        with ThreadPoolExecutor(64) as pool:
            while not self._stop.wait(_TICK_S):
                pool.submit(self._verify)

    def _verify(self) -> None:
        began_s = time.monotonic()
        try:
            outcome = self._client.verify(self._speaker_id, self._audio, raw=RAW).outcome
        except SaysoError as error:
            outcome = type(error).__name__
        self.answers.append(Answer(began_s, time.monotonic() - began_s, outcome))
