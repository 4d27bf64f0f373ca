"""A checkpoint of `training` as a candidate for publishing."""

from __future__ import annotations

from pathlib import Path

import torch

from exporters import model_file, parity
from exporters.errors import CheckpointError
from exporters.graph import trace
from exporters.publish import Candidate, Windows
from exporters.voices import synthesize_voice
from training import encoders
from training.errors import first_line
from training.runs import checkpoint


def make_candidate(path: Path, *, name: str, windows: Windows, licence: str = "") -> Candidate:
    """Export the averaged encoder of the run's checkpoint at `path`; raises `CheckpointError`."""
    try:
        loaded = checkpoint.load(path)
        encoder = encoders.build(loaded.recipe)
        encoder.load_state_dict(loaded.average)
    except Exception as error:  # the unpickler raises anything at all on junk
        raise CheckpointError(
            f"{path} is no checkpoint of this code: {first_line(error)}"
        ) from error
    rate = loaded.recipe.front_end.sample_rate_hz
    example = synthesize_voice(0, rate=rate, samples=round(windows.window_s * rate))
    return Candidate(
        name=name,
        graph=trace(encoder, torch.from_numpy(example).repeat(2, 1)),
        original=parity.module_embed(encoder),
        rate=rate,
        windows=windows,
        provenance={
            "source": f"sayso-train, {path.name} at step {loaded.progress.step}",
            "checkpoint": model_file.digest(path),
            "recipe": loaded.recipe.model_dump(mode="json"),
            "data": {
                "digest": loaded.progress.data_digest,
                "speakers": loaded.progress.train_speakers,
                "clips": loaded.progress.train_clips,
            },
            **({"teacher": loaded.progress.teacher} if loaded.progress.teacher else {}),
            **({"licence": licence} if licence else {}),
        },
    )
