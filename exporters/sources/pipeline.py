"""A feature-in encoder and its front end as one module, and its checkpoint as a candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters import model_file
from exporters.graph import trace
from exporters.parity import module_embed
from exporters.publish import Candidate, Windows
from exporters.sources import weights
from exporters.sources.weights import Shapes
from exporters.voices import made_voice

_WRAPPERS = ("model", "state_dict", "model_state")
_PREFIXES = ("module.", "spk_model.")
_HEADS = ("projection.", "classifier.")  # what training needs and an embedding does not


class Pipeline(nn.Module):
    """waveform (batch, samples) -> embedding (batch, dim) of unit length."""

    def __init__(self, front_end: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.front_end = front_end
        self.encoder = encoder

    def forward(self, waveform: Tensor) -> Tensor:
        return functional.normalize(self.encoder(self.front_end(waveform)), dim=1)


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
        state = state_of(path)
        encoder, mels = self.encoder(Shapes(state, self.title))
        weights.fill(encoder, state, architecture=self.title)
        whole = Pipeline(self.front_end(self.rate, mels), encoder)
        example = made_voice(0, rate=self.rate, samples=2 * self.rate)
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


def state_of(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors in a checkpoint, without what wraps them or serves training only."""
    found = weights.read(path)
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    state = weights.tensors(found, path)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in state.items() if not name.startswith(_HEADS)}
