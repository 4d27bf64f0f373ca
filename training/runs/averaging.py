"""Weights between those that a run began with and those that it came to.

A run on new voices forgets some of what it began with; half-way between the two, both are kept
(Wortsman et al. 2022, arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from training import encoders
from training.runs import starting_weights
from training.runs.checkpoint import Checkpoint


def average_with_start(run: Checkpoint, start: Path, share: float) -> Checkpoint:
    """The checkpoint with `share` of the run's weights and the rest those of `start`, a model file
    or published encoder that the run went on from. Raises CheckpointError if it is another encoder.
    """
    encoder = encoders.build(run.recipe)
    starting_weights.load_into(encoder, start)
    began = encoder.state_dict()
    return replace(
        run,
        encoder=_average(began, run.encoder, share),
        average=_average(began, run.average, share),
    )


def _average(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Counters of steps stay those of the end."""
    return {
        name: start[name].lerp(weights, share) if weights.is_floating_point() else weights
        for name, weights in end.items()
    }
