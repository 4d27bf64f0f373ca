"""A model that ships scores the demo's recordings as it did when it was released.

What it guards against: a processor's kernels, a runtime, a decoder, voice activity or a calibration
that silently score otherwise. Kernels that are right differ by rounding.
"""

from pathlib import Path

import pytest

from tests.models import pins

# Without the runtime's graph optimizations no score moves by 0.0001. Noise of 0.001 in each
# component of the embeddings moves ratios by 0.05 and cosines by 0.0011.
LLR, COSINE = 0.02, 0.001


@pytest.mark.parametrize("model", pins.MODELS, ids=lambda path: path.name)
def test_the_demo_scores_as_pinned(model: Path) -> None:
    pinned = pins.read()[model.name]
    measured = pins.measure(model)
    assert measured.keys() == pinned.keys()
    changed = {
        trial: (scores, pinned[trial])
        for trial, scores in measured.items()
        if scores["cosine"] != pytest.approx(pinned[trial]["cosine"], abs=COSINE)
        or scores["llr"] != pytest.approx(pinned[trial]["llr"], abs=LLR)
    }
    assert not changed, "if the model or its calibration was changed on purpose: make pins"


def test_every_shipped_model_is_pinned() -> None:
    assert set(pins.read()) == {model.name for model in pins.MODELS}
