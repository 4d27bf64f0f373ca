"""Verifications one after the other, at an even pace, and how each ended."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sayso import Client, SaysoError

from tests.reliability.serving import PATIENCE_S, RAW, speech, wait_until

_TICK_S = 0.1


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
    """Under `with`, a verification of `speaker_id` begins every tenth of a second, whatever
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
        try:
            wait_until(
                lambda: any(answer.outcome == outcome for answer in self.since(since_s)), outcome
            )
        except AssertionError as error:
            error.add_note(str(Counter(answer.outcome for answer in self.since(since_s))))
            raise
        given = (answer for answer in self.since(since_s) if answer.outcome == outcome)
        return min(given, key=lambda answer: answer.ended_s)

    def _tick(self) -> None:
        with ThreadPoolExecutor(64) as pool:
            while not self._stop.wait(_TICK_S):
                pool.submit(self._verify)

    def _verify(self) -> None:
        began_s = time.monotonic()
        try:
            outcome = str(self._client.verify(self._speaker_id, self._audio, raw=RAW).outcome)
        except SaysoError as error:
            outcome = type(error).__name__
        self.answers.append(Answer(began_s, time.monotonic() - began_s, outcome))
