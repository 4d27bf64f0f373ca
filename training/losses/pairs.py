"""Which examples of a batch belong together, and how far apart they lie."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.errors import BatchError

SQUARE_FLOOR = 1e-12
LEAST_LENGTH = 1e-3


def square_distances(embeddings: Tensor) -> Tensor:
    """Squared Euclidean, between unit vectors: (batch, dim) -> (batch, batch), 0 to 4."""
    return (2.0 - 2.0 * (embeddings @ embeddings.T)).clamp(min=0.0)


def distances(embeddings: Tensor) -> Tensor:
    """Euclidean, between unit vectors: (batch, dim) -> (batch, batch), 0 to 2.

    The floor keeps the gradient finite where two coincide.
    """
    return square_distances(embeddings).clamp(min=SQUARE_FLOOR).sqrt()


def pair_masks(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Same speaker but not oneself, and other speaker: two of (batch, batch) bool."""
    same = labels[:, None] == labels[None, :]
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values; zero, with zero gradient, when none is."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)


def view_of_voice(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which voice of the batch, and which of its views each example is: two of (batch,) int64.

    Voices are numbered by rising label, views by their order in the batch. BatchError when a
    voice has a single view.
    """
    _, voice, views = torch.unique(labels, return_inverse=True, return_counts=True)
    if views.min() < 2:
        raise BatchError(
            "a voice has one view in the batch and this loss needs two: "
            "raise sampling.clips_per_speaker"
        )
    earlier = (labels[:, None] == labels[None, :]).tril(diagonal=-1)
    return voice, earlier.sum(dim=1)


def first_two_views(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One row a voice, by rising label: two of (voices, dim); further views are left out.

    BatchError when a voice has a single view.
    """
    voice, view = view_of_voice(labels)
    by_voice = voice.argsort(stable=True)
    return embeddings[by_voice[view[by_voice] == 0]], embeddings[by_voice[view[by_voice] == 1]]


def sum_by_voice(embeddings: Tensor, voice: Tensor) -> Tensor:
    """(batch, dim) and (batch,) numbers from 0 -> (voices, dim)."""
    voices = torch.arange(int(voice.max()) + 1, device=voice.device)
    return (voices[:, None] == voice[None, :]).to(embeddings.dtype) @ embeddings


def directions(sums: Tensor) -> Tensor:
    """Sum of unit vectors (count, dim) made unit length, unless they all but cancel out."""
    return functional.normalize(sums, dim=1, eps=LEAST_LENGTH)
