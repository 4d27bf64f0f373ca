"""Server and watcher are killed again and again: whatever was answered has been told of."""

import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sayso import Client, SaysoError

from benchmarks.figures import below
from tests.reliability.results import Seen
from tests.reliability.serving import server, wait_until
from tests.support.voices import clips

SECTION = "events"
_LONGEST_S = 0.6  # of calls before a kill

# Appends the id of each event to a file, then keeps the token with which to go on.
_WATCHER = """
import os, sys
from pathlib import Path
from sayso import Client
address, told, kept = sys.argv[1], open(sys.argv[2], "a"), Path(sys.argv[3])
token = kept.read_text() if kept.exists() else ""
with Client(address) as client:
    for event in client.watch_events(resume_token=token, from_oldest=True, types=["call.ended"]):
        print(event.request_id, event.lost, file=told, flush=True)
        kept.with_suffix(".new").write_text(event.resume_token)
        os.replace(kept.with_suffix(".new"), kept)
"""


class _Watcher:
    """A process that watches, to be killed."""

    def __init__(self, folder: Path) -> None:
        self._told, self._token = folder / "told", folder / "token"

    def start(self, address: str) -> None:
        arguments = [address, str(self._told), str(self._token)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WATCHER, *arguments], stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def told(self) -> list[str]:
        """The request ids of the calls that it was told of; a kill may tear the last line."""
        lines = self._told.read_text().splitlines() if self._told.exists() else []
        assert all(line.split()[1:] in ([], ["0"]) for line in lines), "events are gone"
        return [line.split()[0] for line in lines if line]


@contextmanager
def calling(address: str, numbers: Iterator[int], answered: list[str]) -> Iterator[None]:
    """Verify somebody over and over, and note the ids of the requests that were answered."""
    stopped, audio = threading.Event(), clips("slt", "verify")[0].read_bytes()

    def call() -> None:
        request_id = ""

        def name() -> str:
            nonlocal request_id
            request_id = f"call-{next(numbers)}"
            return request_id

        with Client(address, request_ids=name, timeout_s=5.0) as client:
            while not stopped.is_set():
                try:
                    client.verify("nobody", audio)
                except SaysoError:
                    return
                answered.append(request_id)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_killed_servers_and_watchers(
    store: str, kind: str, tmp_path: Path, long: bool, seen: Seen
) -> None:
    rounds, chance = 100 if long else 3, random.Random(19)
    numbers, answered = itertools.count(), list[str]()
    running, watcher = server(store, events_kept=100_000), _Watcher(tmp_path)
    for _ in range(rounds):
        running.start()
        watcher.start(running.address)
        before = len(answered)
        with calling(running.address, numbers, answered):
            wait_until(lambda: len(answered) > before, "answered a call")  # noqa: B023
            time.sleep(chance.uniform(0.0, _LONGEST_S))
            for kill in chance.sample([running.kill, watcher.kill], 2):
                kill()
    running.start()
    watcher.start(running.address)
    try:
        wait_until(lambda: set(answered) <= set(watcher.told), "told of every answered call")
    finally:
        watcher.kill()
        running.terminate()
    told = watcher.told
    how = f"{len(answered)} calls in {rounds} lives of a server and a watcher that ended in SIGKILL"
    seen.tell(SECTION, f"answered_on_{kind}_not_told", [0], "calls", how, below(0))
    seen.tell(SECTION, f"told_twice_on_{kind}", [len(told) - len(set(told))], "calls", how)
