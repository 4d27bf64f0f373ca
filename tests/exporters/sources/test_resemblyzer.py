"""Resemblyzer adopted from its package, against `VoiceEncoder.embed_utterance`."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from exporters import model_file, parity
from exporters.errors import CheckpointError, ExportError
from exporters.publish import publish
from exporters.sources import adopt, resemblyzer
from exporters.voices import load_voices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    package = pytest.importorskip(
        "resemblyzer", reason="pip install --no-deps resemblyzer webrtcvad"
    )

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def peer() -> Any:
    return package.VoiceEncoder("cpu", verbose=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adopted") / "resemblyzer.onnx"
    with adopt.make_candidate(adopt.Request("resemblyzer")) as candidate:
        publish(candidate, path)
    return path


@pytest.mark.parametrize(
    "samples",
    [8000, 19199, 25599, 25600, 31519, 31520, 37920, 50240, 56161, 100001],
)
def test_any_length_is_embedded_as_the_package_does(peer: Any, model: Path, samples: int) -> None:
    """Lengths on either side of where one more partial utterance begins."""
    waveforms, _ = load_voices(None, rate=16000, samples=samples, count=2)
    loud = np.stack([_loud(row) for row in waveforms])
    theirs = np.stack([peer.embed_utterance(row) for row in loud])
    ours = parity.graph_embed(model_file.read(model)[0])(loud)
    assert parity.least_cosine(ours, theirs) >= 0.9999


def _loud(row: Floats) -> Floats:
    return row * np.float32(0.1 / np.sqrt(np.mean(row**2)))


def test_a_quiet_voice_is_amplified_as_the_package_does(peer: Any, model: Path) -> None:
    quiet = np.float32(0.01) * _loud(load_voices(None, rate=16000, samples=25600, count=1)[0][0])
    theirs = peer.embed_utterance(package.audio.normalize_volume(quiet, -30, increase_only=True))
    ours = parity.graph_embed(model_file.read(model)[0])(quiet[None])
    assert parity.least_cosine(ours, theirs[None]) >= 0.9999
    unamplified = peer.embed_utterance(quiet)
    assert parity.least_cosine(ours, unamplified[None]) < 0.999


def test_the_contract_says_where_it_comes_from(model: Path) -> None:
    contract = model_file.read(model)[1]
    assert contract.provenance["licence"] == "Apache-2.0"
    assert "resemble-ai/Resemblyzer" in contract.provenance["source"]
    assert (contract.window_samples, contract.hop_samples) == (25600, 12320)
    assert contract.dimension == 256


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    weights = resemblyzer.find_installed_weights()
    content = torch.load(weights, map_location="cpu", weights_only=True)
    request = adopt.Request(str(tmp_path / "x.pt"), architecture="resemblyzer")

    def refused(state: object, match: str) -> None:
        torch.save({"model_state": state}, tmp_path / "x.pt")
        with (
            pytest.raises(CheckpointError, match=match),
            adopt.make_candidate(request),
        ):
            pass

    state = dict(content["model_state"])
    refused({k: v for k, v in state.items() if k != "linear.bias"}, "lacks linear.bias")
    refused({**state, "linear2.bias": state["linear.bias"]}, "beside them linear2.bias")
    refused({**state, "linear.bias": torch.zeros(3)}, r"linear.bias is \(3,\), not \(256,\)")
    refused({**state, "linear.bias": state["linear.bias"] * torch.nan}, "not finite")
    refused({**state, "linear.bias": "hello"}, "no tensor")
    refused(None, "no named tensors")


def test_an_unknown_name_lists_the_known() -> None:
    with (
        pytest.raises(ExportError, match="no model of that name: resemblyzer"),
        adopt.make_candidate(adopt.Request("resemblizer")),
    ):
        pass
