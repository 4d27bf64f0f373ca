"""Many clients enrol, verify and delete one speaker at once: as if they had taken turns."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import numpy as np
from sayso import Aborted, Client, NotFound

from benchmarks.figures import above
from tests.reliability.linearisable import Operation, linearisable
from tests.reliability.results import Seen
from tests.reliability.serving import RAW, server, speech

SECTION = "concurrency"
_CLIENTS = 6
_EACH = 8  # calls of a client in a history

Voice = tuple[str, int]
"""The etag, and how many recordings there are; ("", 0) for no speaker."""
NOBODY: Voice = ("", 0)
Call = Operation[Voice]
Step = Callable[[Voice], Voice | None]


@dataclass(slots=True)
class Asking:
    """One client of one speaker, who remembers the etag seen last."""

    sayso: Client
    speaker_id: str
    audio: bytes
    one_s: float  # net speech of the audio
    chance: random.Random
    etag: str = ""

    def history(self, begin: Barrier) -> list[Call]:
        kinds = (self.enrol, self.enrol_if, self.verify, self.get, self.delete, self.delete_if)
        begin.wait()
        calls = []
        for _ in range(_EACH):
            (kind,) = self.chance.choices(kinds, weights=(4, 2, 3, 3, 2, 1))
            called_s = time.monotonic()
            after = kind()
            calls.append(Operation(kind.__name__, called_s, time.monotonic(), after))
        return calls

    def enrol(self) -> Step:
        speaker = self.sayso.enroll(self.speaker_id, self._another(), raw=RAW).speaker
        assert speaker is not None
        etag, told = speaker.etag, self._recordings(speaker.net_speech_s)
        self.etag = etag
        return lambda voice: (etag, told) if voice[1] + 1 == told else None

    def enrol_if(self) -> Step:
        """If it is still what this client saw last; anything goes where it saw nothing."""
        if not (expected := self.etag):
            return self.enrol()
        try:
            made = self.sayso.enroll(self.speaker_id, self._another(), raw=RAW, etag=expected)
        except Aborted:
            return lambda voice: voice if voice[0] != expected else None
        assert made.speaker is not None
        self.etag = etag = made.speaker.etag
        return lambda voice: (etag, voice[1] + 1) if voice[0] == expected else None

    def verify(self) -> Step:
        outcome = self.sayso.verify(self.speaker_id, self.audio, raw=RAW).outcome
        assert outcome in ("ACCEPTED", "NOT_ENROLLED")
        return lambda voice: voice if (outcome == "ACCEPTED") is (voice != NOBODY) else None

    def get(self) -> Step:
        try:
            speaker = self.sayso.speakers.get(self.speaker_id)
        except NotFound:
            return _nobody
        self.etag = speaker.etag
        told = (speaker.etag, self._recordings(speaker.net_speech_s))
        return lambda voice: voice if voice == told else None

    def delete(self) -> Step:
        try:
            self.sayso.speakers.delete(self.speaker_id)
        except NotFound:
            return _nobody
        return lambda voice: NOBODY if voice != NOBODY else None

    def delete_if(self) -> Step:
        expected = self.etag or "never"
        try:
            self.sayso.speakers.delete(self.speaker_id, etag=expected)
        except NotFound:
            return _nobody
        except Aborted:
            return lambda voice: voice if voice not in (NOBODY, (expected, voice[1])) else None
        return lambda voice: NOBODY if voice[0] == expected else None

    def _another(self) -> bytes:
        """The same speech in other noise: a recording that is sent twice would count once."""
        noise = np.random.default_rng(self.chance.getrandbits(64))
        samples = np.frombuffer(self.audio, np.int16)
        return (samples + noise.integers(-60, 60, samples.size)).astype(np.int16).tobytes()

    def _recordings(self, speech_s: float) -> int:
        return round(speech_s / self.one_s)


def _nobody(voice: Voice) -> Voice | None:
    return voice if voice == NOBODY else None


def test_calls_on_one_speaker(store: str, kind: str, long: bool, seen: Seen) -> None:
    histories, audio, chance = 150 if long else 5, speech(), random.Random(8)
    overlapping = 0
    with server(store) as running, ThreadPoolExecutor(_CLIENTS) as pool:
        clients = [running.client() for _ in range(_CLIENTS)]
        one_s = clients[0].enroll("length", audio, raw=RAW).net_speech_s
        for number in range(histories):
            speaker_id = f"speaker-{number}"
            asking = [
                Asking(sayso, speaker_id, audio, one_s, random.Random(chance.random()))
                for sayso in clients
            ]
            begin = Barrier(_CLIENTS)
            told = pool.map(lambda one, begin=begin: one.history(begin), asking)
            history = [call for calls in told for call in calls]
            assert linearisable(history, NOBODY), sorted(
                (call.called_s, call.answered_s, call.name) for call in history
            )
            overlapping += _overlapping(history)
        for sayso in clients:
            sayso.close()
    calls = histories * _CLIENTS * _EACH
    how = f"of {_CLIENTS} clients, {calls} calls in all, {overlapping} pairs of them overlapping"
    seen.tell(SECTION, f"linearisable_on_{kind}", [histories], "histories", how, above(histories))


def _overlapping(history: list[Call]) -> int:
    return sum(
        one.called_s < other.answered_s and other.called_s < one.answered_s
        for at, one in enumerate(history)
        for other in history[:at]
    )


def _read(called_s: float, answered_s: float, held: int) -> Operation[int]:
    return Operation("read", called_s, answered_s, lambda now: now if now == held else None)


def _write(called_s: float, answered_s: float, new: int) -> Operation[int]:
    return Operation("write", called_s, answered_s, lambda _: new)


def test_the_order_of_what_overlaps_is_free() -> None:
    assert linearisable([_write(0, 3, 1), _read(1, 2, 0), _read(2.5, 4, 1)], 0)
    assert linearisable([_write(0, 3, 1), _write(0, 3, 2), _read(4, 5, 1)], 0)


def test_what_was_answered_before_comes_before() -> None:
    assert not linearisable([_write(0, 1, 1), _read(2, 3, 0)], 0)
    assert not linearisable([_write(0, 9, 1), _read(1, 2, 1), _read(3, 4, 0)], 0)
    assert not linearisable([_write(0, 3, 1), _read(1, 2, 7)], 0)
