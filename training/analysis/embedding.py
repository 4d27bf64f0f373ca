"""Clips to embeddings, by a trained encoder or by what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training import config, encoders, frameworks
from training.augment import wrap
from training.data.library import Pcm
from training.ranks import ALONE
from training.runs.checkpoint import Checkpoint
from training.runs.material import VALIDATION_S
from training.runs.validation import BATCH_CLIPS, embed


def for_validation(state: Checkpoint) -> nn.Module:
    """The module that the run's validation measured: waveform (batch, samples) to (batch, dim).

    That is the averaged encoder, or after predictive coding the mean of its frames.
    """
    encoder = encoders.build(state.recipe)
    encoder.load_state_dict(state.average)
    if isinstance(state.recipe.framework, config.Cpc):
        framework = frameworks.build(state.recipe, encoder, voices=0, ranks=ALONE)
        return framework.for_validation(encoder).eval()
    return encoder.eval()


def embed_clips(
    module: nn.Module, audio: Sequence[Pcm], *, sample_rate_hz: int, device: torch.device
) -> npt.NDArray[np.float64]:
    """Embed the first 3 s of each clip, shorter clips repeated to that length: (clips, dim)."""
    samples = round(VALIDATION_S * sample_rate_hz)
    module = module.to(device)
    rows = []
    for start in range(0, len(audio), BATCH_CLIPS):
        crops = [wrap(pcm, samples, 0.0) for pcm in audio[start : start + BATCH_CLIPS]]
        rows.append(embed(module, torch.from_numpy(np.stack(crops)), device))
    return np.concatenate(rows)
