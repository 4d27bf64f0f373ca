"""Another toolkit's checkpoint as a candidate: its encoder, rebuilt, behind its front end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from exporters import model_file
from exporters.graph import trace
from exporters.parity import module_embed
from exporters.publish import Candidate, Windows
from exporters.sources.weights import Shapes, export_errors
from exporters.voices import synthesize_voice
from training.encoders import SpeakerEncoder, published


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to rebuild a published model: `encoder` from the shapes in its checkpoint, and
    `front_end` at `rate` hertz for that many mels."""

    title: str
    encoder: Callable[[Shapes], tuple[nn.Module, int]]
    front_end: Callable[[int, int], nn.Module]
    source: str
    rate: int = 16000

    def __call__(self, path: Path) -> Candidate:
        """The checkpoint at `path` as a candidate; raises `CheckpointError`."""
        with export_errors():
            state = published.read_encoder(path)
            encoder, mels = self.encoder(Shapes(state, self.title))
            published.fill(encoder, state, architecture=self.title)
        whole = SpeakerEncoder(self.front_end(self.rate, mels), encoder)
        example = synthesize_voice(0, rate=self.rate, samples=2 * self.rate)
        return Candidate(
            name=self.title.lower().replace(" ", "-").replace("++", "pp"),
            graph=trace(whole, torch.from_numpy(example).repeat(2, 1)),
            original=module_embed(whole),
            rate=self.rate,
            windows=Windows(),
            provenance={
                "source": f"{self.title}, {self.source}",
                "checkpoint": model_file.digest(path),
            },
        )
