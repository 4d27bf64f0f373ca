"""Every objective learns to tell voices that it never met, by what is theirs and not the channel's.

A made clip is a vector: its speaker's part in a few directions, and in all others a channel
several times as strong, drawn anew for each clip.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.metrics import Sweep, eer
from tests.support.objectives import OBJECTIVES, build_objective

FEATURES, SPEAKER_PARTS, CHANNEL_PARTS = 24, 6, 12
LEARNED, HELD_OUT, VIEWS = 80, 60, 3
CHANCE, STEPS = 0.5, 200


class MadeVoices:
    def __init__(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._speakers = self._drawn(LEARNED + HELD_OUT, SPEAKER_PARTS)
        self._speaker_map = self._drawn(SPEAKER_PARTS, FEATURES)
        self._channel_map = self._drawn(CHANNEL_PARTS, FEATURES)

    def _drawn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random)

    def clips(self, speakers: Tensor) -> Tensor:
        """(clips,) numbers of speakers -> (clips, FEATURES)."""
        channel = 2.0 * self._drawn(len(speakers), CHANNEL_PARTS) @ self._channel_map
        noise = 0.3 * self._drawn(len(speakers), FEATURES)
        return self._speakers[speakers] @ self._speaker_map + channel + noise

    def batch(self) -> tuple[Tensor, Tensor]:
        """16 voices, VIEWS clips of each."""
        chosen = torch.randperm(LEARNED, generator=self._random)[:16]
        labels = chosen.repeat_interleave(VIEWS)
        return self.clips(labels), labels


def held_out_eer(encoder: nn.Module, voices: MadeVoices) -> float:
    speakers = torch.arange(LEARNED, LEARNED + HELD_OUT).repeat(4)
    with torch.no_grad():
        embeddings = functional.normalize(encoder(voices.clips(speakers)), dim=1)
    scores = (embeddings @ embeddings.T).double().numpy()
    same = (speakers[:, None] == speakers).numpy()
    other_clip = ~torch.eye(len(speakers), dtype=torch.bool).numpy()
    return eer(Sweep.of(scores[same & other_clip], scores[~same]))


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_voices_never_met_are_told_apart(objective: str) -> None:
    torch.manual_seed(3)
    voices = MadeVoices(seed=4)
    encoder = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 16))
    loss = build_objective(objective, dim=16, classes=LEARNED)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *loss.parameters()], lr=5e-3)
    assert held_out_eer(encoder, voices) > 0.3
    for _ in range(STEPS):
        clips, labels = voices.batch()
        embeddings = functional.normalize(encoder(clips), dim=1)
        total, _ = loss(embeddings, labels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert held_out_eer(encoder, voices) < 0.25 * CHANCE
