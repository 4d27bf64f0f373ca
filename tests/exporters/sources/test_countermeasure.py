from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from exporters.__main__ import app
from exporters.errors import CheckpointError
from exporters.sources import countermeasure
from training.config import Schedule
from training.countermeasure import train
from training.countermeasure.network import LightCnn
from training.countermeasure.recipe import CountermeasureRecipe, Network

RECIPE = CountermeasureRecipe(
    window_s=0.5, network=Network(bands=64, width=4, embedding_dim=4), schedule=Schedule(steps=1)
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = LightCnn(RECIPE.network, RECIPE.sample_rate_hz)
    path = tmp_path / "last.pt"
    provenance = train.Provenance(("bonafide", "codec2"), 7, 3, "d1")
    train.write(path, RECIPE, provenance, 1, network, network, {})
    return path


def test_exports_the_average_for_any_batch(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "cm.onnx"
    result = CliRunner().invoke(app, ["countermeasure", str(checkpoint), "--output", str(output)])
    assert result.exit_code == 0, result.output
    _, network, _ = train.load_network(checkpoint)
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        waveforms = np.random.default_rng(batch).standard_normal((batch, 8000)).astype(np.float32)
        [logits] = session.run(None, {"waveform": waveforms})
        with torch.no_grad():
            expected = network(torch.from_numpy(waveforms)).numpy()
        assert logits.shape == (batch,)
        assert np.allclose(logits, expected, atol=1e-4)
    [entry] = onnx.load(output).metadata_props
    told = json.loads(entry.value)
    assert (told["attacks"], told["clips"], told["rate_hz"]) == (["bonafide", "codec2"], 7, 16000)


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"version": 1}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of a countermeasure"):
        countermeasure.make_graph(path)
