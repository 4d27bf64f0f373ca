"""Equal error rates of speakers held out of training, as recorded and across channels."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evaluation.metrics import Sweep, eer
from training.augment import Rng, Waveform, wrap
from training.data.library import Clip, Library, clips_by_speaker
from training.errors import ManifestError

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


def embed(encoder: nn.Module, waveforms: Tensor, device: torch.device) -> npt.NDArray[np.float64]:
    """Embed waveforms (clips, samples): (clips, dim)."""
    with torch.inference_mode():
        rows = [encoder(part.to(device)).cpu() for part in torch.split(waveforms, BATCH_CLIPS)]
    return torch.cat(rows).double().numpy()


def require_trials(clips: Sequence[Clip]) -> None:
    """Raise ManifestError if no two of the clips are of one speaker, or of two of a corpus."""
    groups = clips_by_speaker(clips)
    if all(len(group) < 2 for group in groups.values()):
        raise ManifestError(
            f"none of the {len(groups)} speakers held out for validation has two clips to compare: "
            "raise sampling.held_out_speakers, or add clips of the same speakers"
        )
    corpora = Counter(clips[group[0]].corpus for group in groups.values())
    if max(corpora.values()) < 2:
        raise ManifestError(
            f"no corpus has two of the {len(groups)} speakers held out for validation, and only "
            "speakers of one corpus are compared: raise sampling.held_out_speakers, or give what "
            "was recorded alike the same corpus"
        )


class Validation:
    """All pairs of different clips within a corpus, up to eight clips a speaker, at equal lengths.

    Clips with the same audio are not compared: the copy alone would give them away. Channels are
    drawn once from the seed, so that every step is measured on the same audio.
    """

    def __init__(
        self,
        library: Library,
        channel: Callable[[Waveform, Rng], Waveform],
        *,
        samples: int,
        seed: int,
    ) -> None:
        require_trials(library.clips)
        groups = clips_by_speaker(library.clips)
        chosen = [index for group in groups.values() for index in group[:CLIPS_PER_SPEAKER]]
        digests = [sha256(library.audio[index].tobytes()).digest() for index in chosen]
        recorded = [wrap(library.audio[index], samples, 0.0) for index in chosen]
        self._sides = [torch.from_numpy(np.stack(recorded))]
        for side in range(2):
            sent = [
                channel(waveform, np.random.default_rng((seed, side, place)))
                for place, waveform in enumerate(recorded)
            ]
            self._sides.append(torch.from_numpy(np.stack(sent)))
        self._target, self._other = make_trial_masks([library.clips[i] for i in chosen], digests)

    def through(self, front_end: Callable[[Tensor], Tensor]) -> Validation:
        """The same trials as features, to measure many encoders without their front end."""
        other = copy.copy(self)
        with torch.inference_mode():
            other._sides = [
                torch.cat([front_end(part) for part in torch.split(side, BATCH_CLIPS)])
                for side in self._sides
            ]
        return other

    def measure(self, encoder: nn.Module, device: torch.device) -> Errors:
        recorded, left, right = (embed(encoder, side, device) for side in self._sides)
        return Errors(self._eer(recorded @ recorded.T), self._eer(left @ right.T))

    def _eer(self, scores: npt.NDArray[np.float64]) -> float:
        return eer(Sweep.of(scores[self._target], scores[self._other]))


def make_trial_masks(
    clips: Sequence[Clip], digests: Sequence[bytes]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which pairs of clips are of one speaker, and which of two of a corpus: (clips, clips)."""
    speaker, corpus, audio = (
        np.unique(values, return_inverse=True)[1]
        for values in ([c.speaker for c in clips], [c.corpus for c in clips], digests)
    )
    same = speaker[:, None] == speaker[None, :]
    differs = audio[:, None] != audio[None, :]
    target = same & differs
    if not target.any():
        raise ManifestError("all clips of every speaker held out for validation are the same audio")
    return target, (corpus[:, None] == corpus[None, :]) & ~same & differs
