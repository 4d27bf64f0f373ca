"""Latencies against what the same clips cost, and a picture of them."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import figures as written
from benchmarks import report
from benchmarks.speed import latency
from benchmarks.speed.clips import cut_mixed
from benchmarks.speed.latency import Trial, figures
from benchmarks.speed.verifying import Answers
from service.settings import SHIPPED_MODEL


def trial(excess_s: float, *, tail_s: float = 0.0) -> Trial:
    """A hundred requests that cost 10 ms each, the last two of them later by `tail_s`."""
    due_s = np.arange(100.0)
    costs_s = np.full(100, 0.01)
    late_s = np.where(np.arange(100) >= 98, tail_s, 0.0)
    taken_s = costs_s + excess_s + late_s
    return Trial(Answers(np.zeros(100, int), due_s, due_s, due_s + taken_s, 0.1), costs_s)


def test_the_excess_is_over_the_cost_of_the_same_clip() -> None:
    [_, excess, bare, *_] = figures({0.1: [trial(0.002), trial(0.004), trial(0.0025)]}, 50.0, 2)
    assert (excess["name"], excess["value"], excess["holds"]) == ("latency_excess_at_10", 2.5, True)
    assert bare["value"] == pytest.approx(10.0)


def test_a_long_tail_misses_the_target() -> None:
    made = figures({0.8: [trial(0.0, tail_s=1.0)]}, 50.0, 2)
    ratio = made[-1]
    assert (ratio["name"], ratio["target"], ratio["holds"]) == (
        "latency_at_80_p99_over_p50",
        3.0,
        False,
    )


@pytest.mark.skipif(not SHIPPED_MODEL.is_file(), reason=f"no {SHIPPED_MODEL.name} in models/")
def test_every_load_is_tried_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "RESULTS", tmp_path)
    monkeypatch.setattr(latency, "RESULTS", tmp_path)
    monkeypatch.setattr(latency, "SATURATION_S", 0.5)
    monkeypatch.setattr(latency, "SATURATING", 4)
    monkeypatch.setattr(latency, "cut_mixed", lambda: cut_mixed()[:4])
    latency.main(["--cores", "1", "--turns", "1", "--seconds", "0.5", "--loads", "0.1", "0.8"])
    [found] = report.read_results(tmp_path).values()
    assert {"latency_excess_at_10", "latency_at_80_p99_over_p50"} <= {one["name"] for one in found}
    assert all(one["value"] > 0 for one in found if one["name"].endswith(("p50", "p99")))
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
