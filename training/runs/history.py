"""What a run told while it went on, read back from its TensorBoard scalars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

EVENTS = "events.out.tfevents.*"
RECORDED, CROSSED = "eer/recorded", "eer/crossed"

Scalars = dict[str, dict[int, float]]


def read(folder: Path, *, until: float = math.inf) -> Scalars:
    """Scalars by name and step, up to the step `until`; empty for a folder without any.

    Of a step written twice, before a kill and after it, the later value counts.
    """
    events = [
        event
        for path in folder.glob(EVENTS)
        for event in LegacyEventFileLoader(str(path)).Load()
        if event.step <= until
    ]
    scalars: Scalars = {}
    for event in sorted(events, key=lambda event: float(event.wall_time)):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return {name: dict(sorted(values.items())) for name, values in scalars.items()}


def best_validation(scalars: Mapping[str, Mapping[int, float]]) -> tuple[int, float, float] | None:
    """The step with the lowest mean of the two EERs, and both EERs as shares; None before the
    first."""
    recorded, crossed = scalars.get(RECORDED, {}), scalars.get(CROSSED, {})
    both = [(recorded[step], crossed[step], step) for step in recorded if step in crossed]
    if not both:
        return None
    *errors, step = min(both, key=lambda point: (point[0] + point[1], point[2]))
    return step, errors[0], errors[1]
