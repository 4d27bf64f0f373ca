"""Resemblyzer: GE2E-trained LSTM (Wan et al. 2018, arXiv 1710.10467), weights in its package.

    waveform ─ level ─ mel ─> frames ─ partials of 1.6 s, each 0.77 s ─ LSTM ─> mean, unit length

The graph does with a waveform of any length what `VoiceEncoder.embed_utterance` does, partial
utterances and their average included.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters import model_file
from exporters.errors import CheckpointError
from exporters.graph import trace
from exporters.parity import module_embed
from exporters.publish import Candidate, Windows
from exporters.sources.weights import export_errors
from exporters.voices import synthesize_voice
from training.encoders import published
from training.frontends.published import LibrosaMel

RATE = 16000
WINDOW_SAMPLES, HOP_SAMPLES = 400, 160
MELS, WIDTH, LAYERS = 40, 256, 3
PARTIAL_FRAMES, STEP_FRAMES = 160, 77  # 1.6 s, and 1.3 a second in whole frames
PARTIAL_SAMPLES, STEP_SAMPLES = PARTIAL_FRAMES * HOP_SAMPLES, STEP_FRAMES * HOP_SAMPLES
LEAST_COVERED_SAMPLES = PARTIAL_SAMPLES * 3 // 4  # of a further partial, or it is left out
LEAST_RMS = 10 ** (-30 / 20)

WINDOWS = Windows(
    window_s=PARTIAL_SAMPLES / RATE,
    hop_s=STEP_SAMPLES / RATE,
    min_speech_s=0.5,
    short_s=(0.5, 0.7, 0.9, 1.1, 1.3, 1.45),
)
"""Its own partials. Shorter speech is a shape of its own, which the graph follows by silence as the
package does; repeating it instead is worse, as docs/learn/adopting.md shows."""

_TRAINING_ONLY = ("similarity_weight", "similarity_bias")


def amplify(waveform: Tensor) -> Tensor:
    """Raise `waveform` (batch, samples) to -30 dB RMS if it is quieter."""
    rms = waveform.square().mean(dim=1, keepdim=True).sqrt()
    return waveform * (LEAST_RMS / rms.clamp(min=1e-9)).clamp(min=1.0)


class VoiceEncoder(nn.Module):
    """waveform (batch, samples) at 16 kHz -> embedding (batch, 256) of unit length."""

    def __init__(self, *, amplify: bool) -> None:
        super().__init__()
        self.amplify = amplify
        self.mel = LibrosaMel(
            rate=RATE, mels=MELS, window_samples=WINDOW_SAMPLES, hop_samples=HOP_SAMPLES
        )
        self.lstm = nn.LSTM(MELS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, waveform: Tensor) -> Tensor:
        leveled = amplify(waveform) if self.amplify else waveform
        samples: Any = torch.as_tensor(waveform.shape[1])  # a tensor, so that tracing follows it
        further = (samples - LEAST_COVERED_SAMPLES).clamp(min=0) // STEP_SAMPLES
        missing = (further * STEP_SAMPLES + PARTIAL_SAMPLES - samples).clamp(min=0)
        silence = waveform.new_zeros([waveform.shape[0], missing])
        frames = self.mel(torch.cat([leveled, silence], dim=1)).transpose(1, 2)
        starts = torch.arange(further + 1)[:, None] * STEP_FRAMES
        partials = frames[:, starts + torch.arange(PARTIAL_FRAMES)]  # (batch, count, 160, mels)
        _, (hidden, _) = self.lstm(partials.flatten(0, 1))
        units = functional.normalize(self.linear(hidden[-1]).relu(), dim=1)
        return functional.normalize(units.reshape([-1, further + 1, WIDTH]).mean(dim=1), dim=1)


def make_candidate(
    source: Path | None = None, *, name: str = "resemblyzer", amplify: bool = True
) -> Candidate:
    """Load the encoder from `source`, else from the installed package; without
    `amplify` a quiet voice stays quiet, as it does without the package's `preprocess_wav`.

    Raises `CheckpointError` when there are none, or they are of another architecture.
    """
    path = source or find_installed_weights()
    encoder = VoiceEncoder(amplify=amplify)
    with export_errors():
        content = published.read(path)
        state = content.get("model_state") if isinstance(content, dict) else None
        tensors = published.require_tensors(state, path)
        own = {name: tensor for name, tensor in tensors.items() if name not in _TRAINING_ONLY}
        published.fill(encoder, own, architecture="Resemblyzer's VoiceEncoder")
    example = synthesize_voice(0, rate=RATE, samples=PARTIAL_SAMPLES)
    return Candidate(
        name=name,
        graph=trace(encoder, torch.from_numpy(example).repeat(2, 1)),
        original=module_embed(encoder),
        rate=RATE,
        windows=WINDOWS,
        provenance={
            "source": "Resemblyzer's VoiceEncoder, https://github.com/resemble-ai/Resemblyzer",
            "licence": "Apache-2.0",
            "checkpoint": model_file.digest(path),
            "amplified": amplify,
        },
    )


def find_installed_weights() -> Path:
    """Find the installed weights without importing the package; raises `CheckpointError`."""
    package = importlib.util.find_spec("resemblyzer")
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (path := Path(folder) / "pretrained.pt").is_file():
            return path
    raise CheckpointError(
        "Resemblyzer's weights are not installed: `pip install --no-deps resemblyzer`, or name "
        "its pretrained.pt"
    )
