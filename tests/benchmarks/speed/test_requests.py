"""A server's memory and its start are measured, and held to their targets."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import figures as written
from benchmarks import report
from benchmarks.speed import requests
from benchmarks.speed.requests import MODELS, SMALL, draw_lengths_s, measure_memory


def test_short_requests_are_as_many_as_long_ones() -> None:
    lengths = np.array(draw_lengths_s(4000, np.random.default_rng(0)))
    assert 0.1 <= lengths.min() < 0.11
    assert 9 < lengths.max() <= 10
    assert np.mean(lengths < 1) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("grown_mb", "flat"), [(0.0, True), (40.0, False)])
def test_memory_that_grows_is_told(grown_mb: float, flat: bool) -> None:
    seconds = np.arange(101.0)
    noise = np.random.default_rng(0).normal(scale=0.1, size=101)
    samples = np.stack([seconds, 200 + grown_mb * seconds / 100 + noise], axis=1)
    made = {one["name"]: one for one in measure_memory(SMALL, samples, 1000)}
    assert made["growth"]["holds"] is flat
    assert made["after"]["holds"]
    assert made["after"]["value"] - made["before"]["value"] == pytest.approx(grown_mb, abs=1)


@pytest.mark.skipif(not MODELS[SMALL].is_file(), reason="no small model in models/")
def test_a_server_is_asked_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "RESULTS", tmp_path)
    monkeypatch.setattr(requests, "PARTS", 10)
    requests.main(["--label", SMALL, "--requests", "20", "--starts", "1", "--cores", "1"])
    [found] = report.read_results(tmp_path).values()
    made = {one["name"]: one for one in found}
    assert made["requests_small_ready"]["value"] > 0
    assert 50 < made["requests_small_after"]["value"] < 1000
    assert made["requests_small_ready_resident"]["target"] == requests.SMALL_MB
