from __future__ import annotations

from collections.abc import Iterator

import pytest

from training.runs.reporting import Lap


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("training.runs.reporting.time.monotonic", clock)
    return clock


def test_a_lap_tells_clips_a_second_and_the_share_of_waiting(clock: Clock) -> None:
    def slow() -> Iterator[str]:
        for batch in ("one", "two", "three"):
            clock.now_s += 0.75
            yield batch

    lap, seen = Lap(), []
    batches = lap.time(slow())
    for _ in range(2):
        seen.append(next(batches))
        clock.now_s += 0.25
        lap.count(8)
    assert lap.finish() == {"clips_per_s": 8.0, "loader_wait": 0.75}
    clock.now_s += 0.25
    assert [*seen, *batches] == ["one", "two", "three"]
    assert lap.finish() == {"clips_per_s": 0.0, "loader_wait": 0.75}
