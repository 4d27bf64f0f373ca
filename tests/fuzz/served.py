"""The rpcs of a real assembly, without a network and with stand-ins for the two models."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import wiring
from service.access import ANYONE
from service.audio.speech import VoiceActivity
from service.audit import Auditor, Origin
from service.contract import Calibration, Contract, OperatingPoint
from service.inference.embedder import Embedder
from service.settings import Settings

DIMENSION = 8
CONTRACT = Contract(
    model_id="made",
    sample_rate=16_000,
    window_samples=16_000,
    hop_samples=8_000,
    min_speech_samples=4_000,
    dimension=DIMENSION,
    calibration=Calibration(
        -5.0,
        {"cosine": 10.0, "log_test_speech": 0.5},
        ((0.5, -2.0), (0.1, 0.0), (0.01, 2.0), (0.001, 4.0)),
        "nothing: made for fuzzing",
    ),
    operating_point=OperatingPoint(0.01),
)

Floats = NDArray[np.float32]


class Loudness:
    """In the place of Silero's model: what is loud is speech."""

    def run(self, _: Sequence[str], inputs: Mapping[str, Floats]) -> list[Floats]:
        loud = np.abs(inputs["input"]).max(axis=1) > 0.05
        return [loud.astype(np.float32), inputs["h"], inputs["c"]]


class Powers:
    """In the place of a speaker model: energies in `DIMENSION` parts of the spectrum."""

    contract = CONTRACT

    def run(self, windows: Floats) -> Floats:
        spectra = np.abs(np.fft.rfft(windows)).astype(np.float32) + 1e-3
        parts = np.array_split(spectra, DIMENSION, axis=1)
        powers = np.log1p(np.stack([part.mean(axis=1) for part in parts], axis=1))
        return np.asarray(powers / np.linalg.norm(powers, axis=1, keepdims=True), np.float32)


class Handlers:
    """In the place of a gRPC server: keeps the handlers that it is given, by rpc."""

    def __init__(self) -> None:
        self.by_rpc: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None: ...

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.by_rpc |= {f"{service}/{name}": each for name, each in handlers.items()}


@asynccontextmanager
async def handlers(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """The handler of every rpc, by its full name, on a store in `folder`."""
    settings = Settings.read(
        store=f"sqlite:///{folder / 'sayso.db'}",
        max_audio_s=5.0,
        max_call_s=5.0,
        max_audio_bytes=2**20,
        min_enroll_speech_s=0.5,
        min_verify_speech_s=0.5,
        duplicates="flag",
        adapt=True,
        adapt_min_speech_s=0.5,
        max_vectors=5,
    )
    vad = VoiceActivity(Loudness())
    embedder = Embedder(Powers(), vad, max_batch=4, queue_limit=64)  # type: ignore[arg-type]
    kept = Handlers()
    async with wiring.make_store(settings) as store, embedder:
        enroller = wiring.make_enroller(settings, store, CONTRACT)
        lockout = wiring.make_lockout(settings, store)
        events = wiring.make_event_log(settings, store)
        events.stop()  # so that whoever watches is answered once, and no call goes on for ever
        auditor = Auditor(None, origin=lambda: Origin(ANYONE.tenant, ANYONE.credential))
        async with wiring.make_identifier(
            settings, store, CONTRACT, enroller, lockout, None
        ) as identifier:
            wiring.add_services(
                kept,  # type: ignore[arg-type]
                settings,
                [embedder],
                store,
                enroller,
                identifier,
                auditor,
                wiring.make_limits(settings, one_tenant=True),
                lockout,
                wiring.make_attempts(lockout, auditor, events),
                events,
            )
            yield kept.by_rpc


def called(handler: Any, requests: Sequence[Any]) -> AsyncIterator[Any]:
    """The responses of an rpc to `requests`, the one of a unary rpc in both directions."""
    given = _each(requests) if handler.request_streaming else requests[0]
    if handler.response_streaming:
        call = handler.stream_stream if handler.request_streaming else handler.unary_stream
        return call(given, None)  # type: ignore[no-any-return]
    call = handler.stream_unary if handler.request_streaming else handler.unary_unary
    return _one(call(given, None))


async def _each(requests: Sequence[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request
        await asyncio.sleep(0)


async def _one(response: Any) -> AsyncIterator[Any]:
    yield await response
