"""Enrolment load: clients that enrol without pause, and what each was told."""

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from sayso import Client, SaysoError, Unavailable

from service.store import Store
from tests.reliability.serving import PATIENCE_S, RAW, speech

_ENROLMENTS = 5  # of one speaker
_LATER_BYTES = 2 * 1600  # a fifth of a second
_ALIKE = 0.8  # the cosine of two such recordings
_PAUSE_S = 0.05  # after a refusal


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
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
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
                for part in parts(audio):
                    if self._stop.is_set():
                        return
                    if not self._acknowledged(sayso, speaker_id, part):
                        break

    def _acknowledged(self, sayso: Client, speaker_id: str, audio: bytes) -> bool:
        try:
            speaker = sayso.enroll(speaker_id, audio, raw=RAW).speaker
        except Unavailable:
            self.refused += 1
            self._stop.wait(_PAUSE_S)
            return False
        except SaysoError as error:
            self.unlike.append(error)
            return False
        assert speaker is not None
        self.acknowledged.setdefault(speaker_id, []).append(speaker.etag)
        self._some.set()
        return True


def parts(audio: bytes) -> list[bytes]:
    """Recordings of one voice that are not the same: each begins a little later than the last."""
    return [audio[number * _LATER_BYTES :] for number in range(_ENROLMENTS)]


async def kept(store: Store, acknowledged: Mapping[str, list[str]]) -> list[str]:
    """The speakers of whom an acknowledged enrolment is missing; none of the others is torn.

    All enrolments are of nearly the same audio, so all vectors are nearly the same.
    """
    missing = []
    for speaker_id, etags in acknowledged.items():
        speaker = await store.get("default", speaker_id)
        if speaker is None:
            missing.append(speaker_id)
            continue
        (voice,) = speaker.voiceprints.values()
        count = len(voice.vectors)
        assert (voice.vectors @ voice.vectors[0] > _ALIKE).all(), "a torn voiceprint"
        assert np.allclose(np.linalg.norm(voice.vectors, axis=1), 1, atol=1e-5), "a torn vector"
        assert (np.ptp(voice.speech_s) < _ENROLMENTS).all(), "torn net speech"
        if count < len(etags):
            missing.append(speaker_id)
        elif count == len(etags):
            assert speaker.etag == etags[-1], "another version than was acknowledged"
        else:
            assert count == len(etags) + 1, "more than was asked for"
    return missing
