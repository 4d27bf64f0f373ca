"""Trials at several lengths, for a calibration that knows a call's first seconds."""

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest

from evaluation.errors import EvaluationError
from evaluation.report.assessment import TERMS
from evaluation.scoring import calibration, calibration_set
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest, trials


async def measure(
    model_file: Path, asked: trials.Trials, *lengths_s: float | None, limit: int = 10**6
) -> calibration_set.CalibrationSet:
    with Cache.open(None) as cache:
        async with SaysoModel.open(model_file, device="cpu") as model:
            return await calibration_set.build_calibration_set(
                model, asked, cache, lengths_s=lengths_s, limit=limit
            )


@pytest.mark.parametrize("limit", [10**6, 300])
def test_lengths_are_joined_and_limited(
    speech_manifest: Path, model_file: Path, limit: int
) -> None:
    asked = trials.make_pairs(manifest.read(speech_manifest), limit=10**6)
    found = asyncio.run(measure(model_file, asked, 0.5, 1.0, None, limit=limit))
    enrol, test = found.speakers
    sizes = {len(part) for part in (found.measures, found.target, found.length_s, enrol, test)}
    assert len(sizes) == 1
    assert max(sizes) <= limit
    assert np.array_equal(found.target, enrol == test)
    assert set(found.length_s) == {0.5, 1.0, np.inf}
    short = found.measures.test_speech_s[found.length_s == 0.5]
    assert short.max() < 0.7
    assert found.measures.test_speech_s.max() > 1.4
    if limit < 1000:
        assert 0.4 < found.target.mean() < 0.6
    else:
        fitted = calibration.fit_for_contract(
            found.measures, found.target, found.speakers, terms=TERMS, fitted_on="the demo"
        )
        assert set(fitted.weights) == set(TERMS)


def test_a_length_that_no_clip_has_is_left_out(speech_manifest: Path, model_file: Path) -> None:
    asked = trials.make_pairs(manifest.read(speech_manifest), limit=10**6)
    found = asyncio.run(measure(model_file, asked, 50.0, None))
    assert set(found.length_s) == {np.inf}
    assert len(found.target) == math.comb(int(found.whole.acquired.sum()), 2)
    with pytest.raises(EvaluationError, match="too short"):
        asyncio.run(measure(model_file, asked, 50.0))
