"""Equal error rates of speakers held out of training, as recorded and across channels."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evaluation.metrics import Sweep, eer
from training.augment import Rng, Waveform, wrapped
from training.data import Library, clips_by_speaker

CLIPS_PER_SPEAKER = 8
BATCH_CLIPS = 64


@dataclass(frozen=True, slots=True)
class Errors:
    """EER as a share: `recorded` on the clips themselves, `crossed` with the two sides of every
    trial through channels drawn independently."""

    recorded: float
    crossed: float

    @property
    def mean(self) -> float:
        return (self.recorded + self.crossed) / 2


def embedded(
    encoder: nn.Module, waveforms: Tensor, device: torch.device
) -> npt.NDArray[np.float64]:
    """Of waveforms (clips, samples), (clips, dim)."""
    with torch.inference_mode():
        rows = [encoder(part.to(device)).cpu() for part in torch.split(waveforms, BATCH_CLIPS)]
    return torch.cat(rows).double().numpy()


class Validation:
    """All pairs of different clips within a corpus, up to eight clips a speaker, equal lengths.

    Channels are drawn once from the seed, so every step is measured on the same audio.
    """

    def __init__(
        self,
        library: Library,
        channel: Callable[[Waveform, Rng], Waveform],
        *,
        samples: int,
        seed: int,
    ) -> None:
        groups = clips_by_speaker(library.clips)
        chosen = [index for group in groups.values() for index in group[:CLIPS_PER_SPEAKER]]
        recorded = [wrapped(library.audio[index], samples, 0.0) for index in chosen]
        self._sides = [torch.from_numpy(np.stack(recorded))]
        for side in range(2):
            sent = [
                channel(waveform, np.random.default_rng((seed, side, place)))
                for place, waveform in enumerate(recorded)
            ]
            self._sides.append(torch.from_numpy(np.stack(sent)))
        self._speakers = np.array([library.clips[index].speaker for index in chosen])
        self._corpora = np.array([library.clips[index].corpus for index in chosen])

    def through(self, front_end: Callable[[Tensor], Tensor]) -> Validation:
        """The same trials in features, to measure many encoders without their front end."""
        heard = copy.copy(self)
        with torch.inference_mode():
            heard._sides = [
                torch.cat([front_end(part) for part in torch.split(side, BATCH_CLIPS)])
                for side in self._sides
            ]
        return heard

    def measure(self, encoder: nn.Module, device: torch.device) -> Errors:
        recorded, left, right = (embedded(encoder, side, device) for side in self._sides)
        return Errors(self._eer(recorded @ recorded.T), self._eer(left @ right.T))

    def _eer(self, scores: npt.NDArray[np.float64]) -> float:
        same = self._speakers[:, None] == self._speakers[None, :]
        within = self._corpora[:, None] == self._corpora[None, :]
        target = same & ~np.eye(len(same), dtype=bool)
        return eer(Sweep.of(scores[target], scores[within & ~same]))
