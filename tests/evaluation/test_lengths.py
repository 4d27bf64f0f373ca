"""Trials at several lengths, for a calibration that knows a call's first seconds."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from evaluation import calibration, lengths, manifest, trials
from evaluation.assessment import TERMS
from evaluation.cache import Cache
from evaluation.served import Served


@pytest.mark.parametrize("limit", [10**6, 300])
def test_lengths_are_joined_and_limited(spoken: Path, model_file: Path, limit: int) -> None:
    asked = trials.pairs(manifest.read(spoken), limit=10**6)

    async def measure() -> tuple:
        with Cache.open(None) as cache:
            async with Served.open(model_file, device="cpu") as model:
                return await lengths.measured(
                    model, asked, cache, lengths_s=(0.5, 1.0, None), limit=limit
                )

    measures, target, (enrol, test) = asyncio.run(measure())
    assert len(measures) == len(target) == len(enrol) == len(test) <= limit
    assert np.array_equal(target, enrol == test)
    assert measures.test_speech_s.min() < 0.7
    assert measures.test_speech_s.max() > 1.4
    if limit < 1000:
        assert 0.4 < target.mean() < 0.6
    else:
        fitted = calibration.for_contract(
            measures, target, (enrol, test), terms=TERMS, fitted_on="the demo"
        )
        assert set(fitted.weights) == set(TERMS)
