"""Every step takes its turn, on a model too small to tell anything of speed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.speed import train
from benchmarks.speed.train import Bench, Load, measure, measure_coverage

LOAD = Load(torch.device("cpu"), width=16, voices=2, crop_s=0.3, workers=1, steps=2, repeats=2)
OWN = ["whole_step", "bare_step", "loader", "whole_over_bare"]
THEIRS = ["speechbrain_step", "bare_over_speechbrain"]


def test_spans_that_overlap_count_once() -> None:
    assert measure_coverage([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
    assert measure_coverage([]) == 0


def test_steps_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "has_speechbrain", lambda: False)
    figures = {one["name"]: one for one in measure(LOAD, np.random.default_rng(0))}
    assert list(figures) == [f"train_cpu_{name}" for name in OWN]
    assert all(one["value"] > 0 for one in figures.values())
    assert figures["train_cpu_whole_over_bare"]["target"] is None
    assert "width 16, batches of 4 clips of 0.3 s" in figures["train_cpu_loader"]["how"]


@pytest.mark.skipif(not train.has_speechbrain(), reason="speechbrain is not installed")
@pytest.mark.filterwarnings("default")  # of what it imports
def test_another_encoder_learns_by_the_same_losses() -> None:
    bench = Bench(LOAD, np.random.default_rng(0))
    assert bench.measure_bare(bench.others["speechbrain"]) > 0
    made = train.SpeechBrainEcapa(16).eval()
    embeddings = made(torch.randn(2, 8000))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    once = replace(LOAD, workers=0, repeats=1)
    figures = [one["name"] for one in measure(once, np.random.default_rng(0))]
    assert figures == [f"train_cpu_{name}" for name in OWN + THEIRS]
