from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from exporters import countermeasures
from exporters.__main__ import app
from exporters.countermeasures import publish
from exporters.errors import CheckpointError, ParityError
from exporters.sources import countermeasure
from service.contract import CountermeasureContract
from service.errors import ContractError
from service.inference.session import Session
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
    contract = CountermeasureContract.from_metadata(session.get_modelmeta().custom_metadata_map)
    assert contract.model_id.startswith("countermeasure-")
    lengths = (contract.sample_rate, contract.window_samples, contract.hop_samples)
    assert lengths == (16000, 8000, 4000)
    assert contract.provenance["data"]["attacks"] == ["bonafide", "codec2"]
    assert (contract.attacks, contract.calibration) == ((), None)


def test_a_server_does_not_take_it_for_a_speaker_model(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "cm.onnx"
    publish(countermeasure.make_candidate(checkpoint, name="cm"), output)
    with pytest.raises(ContractError, match="holds a countermeasure model, and a speaker model is"):
        Session.open(output, device="cpu")
    result = CliRunner().invoke(
        app, ["quantize", str(output), "--to", "fp16", "--output", str(tmp_path / "small.onnx")]
    )
    assert result.exit_code != 0
    assert not (tmp_path / "small.onnx").exists()


def test_a_graph_with_other_logits_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = countermeasure.make_candidate(checkpoint, name="cm")
    other = countermeasures.trace(candidate)
    with torch.no_grad():
        for parameter in candidate.network.parameters():
            parameter.add_(0.1)
    monkeypatch.setattr(countermeasures, "trace", lambda _: other)
    with pytest.raises(ParityError, match="nothing was written"):
        publish(candidate, tmp_path / "cm.onnx")
    assert not (tmp_path / "cm.onnx").exists()


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"version": 1}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of a countermeasure"):
        countermeasure.make_candidate(path, name="cm")
