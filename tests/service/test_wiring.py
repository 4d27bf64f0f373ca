import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service import wiring
from service.inference.session import Session
from service.settings import Settings

Samples = NDArray[np.float32]
SaveModel = Callable[..., Path]
THREADS = 3


class Meeting(Session):
    """Runs once so many run side by side."""

    meeting = threading.Barrier(THREADS, timeout=10)

    def run(self, windows: Samples) -> Samples:
        self.meeting.wait()
        return super().run(windows)


async def test_on_a_cpu_each_thread_has_batches_of_its_own(
    save_model: SaveModel, clips: list[Samples]
) -> None:
    settings = Settings(model=save_model(), device="cpu", threads=THREADS, allow_uncalibrated=True)  # type: ignore[call-arg]
    [opened] = wiring.open_sessions(settings)
    meeting = Meeting(opened._inference, opened.contract, max_batch=opened.max_batch)
    async with wiring.make_embedder(Settings(threads=THREADS), meeting) as embedder:  # type: ignore[call-arg]
        windows = [np.resize(clip, opened.contract.window_samples) for clip in clips[:THREADS]]
        found = await asyncio.wait_for(embedder._infer("owner", windows), 10)
    for embedding, window in zip(found, windows, strict=True):
        np.testing.assert_allclose(embedding, opened.run(window[None])[0], atol=1e-6)
