"""Decoding, voice activity and inference happen off the event loop: no call waits for another's."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sayso import Client

from service.audio import compressed
from service.audio.decoding import StreamDecoder
from service.audio.speech import SpeechDetector
from service.calls.verification import Verifier
from service.inference.session import Session
from service.server import open_server
from service.settings import Settings
from tests.support.voices import clips


def _used(address: str) -> None:
    path = clips("slt", "verify")[0]
    with Client(address) as sayso:
        sayso.enroll("slt", clips("slt", "enroll")[0])
        sayso.verify("slt", path)
        for _ in sayso.verify_stream("slt", [path.read_bytes()]):
            pass
        made = sayso.embed(path)
        assert made is not None
        sayso.compare(made, made)


async def test_what_takes_long_is_done_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = defaultdict(set)

    def note(owner: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def noted(*args: Any, **options: Any) -> Any:
            threads[f"{owner.__name__}.{name}"].add(threading.get_ident())
            return call(*args, **options)

        monkeypatch.setattr(owner, name, noted)

    work = [
        (StreamDecoder, "push"),
        (compressed, "_read"),
        (SpeechDetector, "push"),
        (SpeechDetector, "finish"),
        (Session, "run"),
        (Verifier, "compare_all"),
    ]
    for owner, name in work:
        note(owner, name)
    settings = Settings.read(listen="127.0.0.1:0", store=f"sqlite:///{tmp_path}/voices.db")
    async with open_server(settings) as running:
        await asyncio.to_thread(_used, running.address)
    assert len(threads) == len(work)
    assert threading.get_ident() not in set().union(*threads.values())
