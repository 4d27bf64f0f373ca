"""SpeechBrain's ECAPA-TDNN, ResNet and features, against SpeechBrain's own modules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from exporters import parity
from exporters.publish import Windows, gate
from exporters.sources import adopt
from exporters.voices import load_voices
from training.frontends.published import SpeechBrainFbank

PeerModule = Callable[[str], Any]


def test_features(peer_module: PeerModule) -> None:
    processing = peer_module("speechbrain.processing.features")
    speech = torch.from_numpy(load_voices(None, rate=16000, samples=40077, count=3)[0])
    stft = processing.STFT(sample_rate=16000, win_length=25, hop_length=10, n_fft=400)
    filters = processing.Filterbank(n_mels=80, n_fft=400, f_max=8000)
    ours = SpeechBrainFbank()(speech)
    for row, features in zip(speech, ours.transpose(1, 2), strict=True):
        theirs = filters(processing.spectral_magnitude(stft(row[None])))[0]
        theirs = theirs - theirs.mean(dim=0)
        torch.testing.assert_close(features, theirs, rtol=1e-3, atol=1e-2)
        assert (features - theirs).abs().mean() < 1e-4


def _ecapa(peer_module: PeerModule) -> nn.Module:
    lobe = peer_module("speechbrain.lobes.models.ECAPA_TDNN")
    encoder: nn.Module = lobe.ECAPA_TDNN(
        80, channels=[32, 32, 32, 32, 96], lin_neurons=16, attention_channels=24
    )
    return encoder


def _resnet(peer_module: PeerModule) -> nn.Module:
    lobe = peer_module("speechbrain.lobes.models.ResNet")
    encoder: nn.Module = lobe.ResNet(input_size=80, channels=[8, 8, 16, 16], lin_neurons=16)
    return encoder


@pytest.mark.parametrize(
    ("architecture", "build"),
    [("speechbrain-ecapa", _ecapa), ("speechbrain-resnet", _resnet)],
    ids=["ecapa", "resnet"],
)
def test_adopted_as_speechbrain_runs_it(
    peer_module: PeerModule,
    lively: Callable[[nn.Module], nn.Module],
    tmp_path: Path,
    architecture: str,
    build: Callable[[PeerModule], nn.Module],
) -> None:
    torch.manual_seed(4)
    peer = lively(build(peer_module))
    processing = peer_module("speechbrain.processing.features")
    stft = processing.STFT(sample_rate=16000, win_length=25, hop_length=10, n_fft=400)
    filters = processing.Filterbank(n_mels=80, n_fft=400, f_max=8000)
    path = tmp_path / "embedding_model.ckpt"
    torch.save(peer.state_dict(), path)
    waveforms, _ = load_voices(None, rate=16000, samples=35007, count=2)
    request = adopt.Request(
        str(path), architecture=architecture, licence="Apache-2.0", windows=Windows(0.8, 0.4)
    )
    with adopt.make_candidate(request) as candidate:
        ours = parity.graph_embed(candidate.graph)(waveforms)
        assert gate(candidate).cosine >= parity.FLOOR
    for row, embedding in zip(torch.from_numpy(waveforms), ours, strict=True):
        with torch.inference_mode():
            features = filters(processing.spectral_magnitude(stft(row[None])))
            theirs = peer(features - features.mean(dim=1, keepdim=True)).flatten(1)
        unit = functional.normalize(theirs).numpy()
        assert parity.least_cosine(embedding[None], unit) >= parity.FLOOR
