"""Where a run tells how it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from torch.utils.tensorboard import SummaryWriter

from training.runs.validation import Errors

T = TypeVar("T")


class Reporter(Protocol):
    def on_start(self, step: int, material: str) -> None:
        """`material` describes the data that the run trains on."""

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """`scalars` include `loss/total`, `learning_rate`, `clips_per_s` and `loader_wait`."""

    def on_validation(self, step: int, errors: Errors, *, best: bool) -> None: ...

    def on_warning(self, step: int, warning: str) -> None:
        """Something the user should know about while the run goes on."""


class Board:
    """Writes TensorBoard scalars into the run folder."""

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

    def on_start(self, step: int, material: str) -> None:
        self._writer.add_text("material", material, step)

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def on_validation(self, step: int, errors: Errors, *, best: bool) -> None:
        self._writer.add_scalar("eer/recorded", errors.recorded, step)
        self._writer.add_scalar("eer/crossed", errors.crossed, step)

    def on_warning(self, step: int, warning: str) -> None:
        self._writer.add_text("warnings", warning, step)


class Reporters:
    """Passes everything on to several reporters, or to none."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def on_start(self, step: int, material: str) -> None:
        for reporter in self._reporters:
            reporter.on_start(step, material)

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        for reporter in self._reporters:
            reporter.on_step(step, scalars)

    def on_validation(self, step: int, errors: Errors, *, best: bool) -> None:
        for reporter in self._reporters:
            reporter.on_validation(step, errors, best=best)

    def on_warning(self, step: int, warning: str) -> None:
        for reporter in self._reporters:
            reporter.on_warning(step, warning)


class Lap:
    """Measures clips per second, and the share of the time spent waiting for them, since last
    asked.

    On CUDA the share is an upper bound: the device may be busy while the host waits.
    """

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._clips = 0
        self._waited_s = 0.0

    def time(self, batches: Iterator[T]) -> Iterator[T]:
        """The batches themselves; the time until each arrives counts as waiting."""
        while True:
            asked_s = time.monotonic()
            batch = next(batches, None)
            self._waited_s += time.monotonic() - asked_s
            if batch is None:
                return
            yield batch

    def count(self, clips: int) -> None:
        self._clips += clips

    def finish(self) -> dict[str, float]:
        now_s = time.monotonic()
        lasted_s = max(now_s - self._started_s, 1e-9)
        rates = {"clips_per_s": self._clips / lasted_s, "loader_wait": self._waited_s / lasted_s}
        self._started_s, self._clips, self._waited_s = now_s, 0, 0.0
        return rates
