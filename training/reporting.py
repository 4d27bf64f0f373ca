"""Where a run tells how it goes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from torch.utils.tensorboard import SummaryWriter

from training.validation import Errors


class Reporter(Protocol):
    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Among the scalars are `loss/total`, `learning_rate` and `clips_per_s`."""

    def validated(self, step: int, errors: Errors, *, best: bool) -> None: ...


class Board:
    """TensorBoard scalars in the run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._writer = SummaryWriter(self._folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def validated(self, step: int, errors: Errors, *, best: bool) -> None:
        self._writer.add_scalar("eer/recorded", errors.recorded, step)
        self._writer.add_scalar("eer/crossed", errors.crossed, step)


class Lap:
    """Clips per second since the last look."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._clips = 0

    def count(self, clips: int) -> None:
        self._clips += clips

    def finish(self) -> float:
        now_s = time.monotonic()
        rate = self._clips / (now_s - self._started_s)
        self._started_s, self._clips = now_s, 0
        return rate
