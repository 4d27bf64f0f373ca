"""What the calibrations of the models that ship may not do."""

from pathlib import Path

import pytest

from exporters import model_file

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*.onnx"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_poor_quality_never_raises_a_score(path: Path) -> None:
    """A caller chooses the noise and the length; weighed freely, 10 dB of noise was worth +0.31."""
    _, contract = model_file.read(path)
    assert contract.calibration is not None
    assert contract.calibration.rewards_poor_quality == ()
    assert contract.cohort is not None
    assert "steep line" in contract.cohort.source
