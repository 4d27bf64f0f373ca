"""A checkpoint of `sayso-train countermeasure` as a candidate for publishing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from exporters import model_file
from exporters.countermeasures import CountermeasureCandidate
from exporters.errors import CheckpointError
from training.countermeasure import train
from training.errors import TrainingError


def make_candidate(path: Path, *, name: str, licence: str = "") -> CountermeasureCandidate:
    """Load the averaged network of the run's checkpoint at `path`; raises `CheckpointError`.

    The attacks that it was trained on are in the provenance. The contract's `attacks` are those
    that it was measured against, and nothing has been measured here.
    """
    try:
        recipe, network, learned = train.load_network(path)
    except TrainingError as error:
        raise CheckpointError(str(error)) from error
    return CountermeasureCandidate(
        name=name,
        network=network.eval(),
        rate=recipe.sample_rate_hz,
        window_samples=recipe.window_samples,
        hop_samples=max(1, recipe.window_samples // 2),
        provenance={
            "source": f"sayso-train countermeasure, {path.name}",
            "checkpoint": model_file.digest(path),
            "recipe": recipe.model_dump(mode="json"),
            "data": asdict(learned),
            **({"licence": licence} if licence else {}),
        },
    )
