"""Pictures of a run: how it learned, and where it puts speakers; drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.runs.history import CROSSED, RECORDED, best_validation

LOSS, RATE = "loss/", "learning_rate"
NAMES = {RECORDED: "as recorded", CROSSED: "across channels"}
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")
GOLDEN_SHARE = 0.618034  # of the circle of hues: neighbors get colors that differ

Series = Mapping[int, float]
Points = npt.NDArray[np.floating]


def draw_curves(scalars: Mapping[str, Series]) -> Figure:
    """Draw losses, held-out EERs with the best marked, and the learning rate over steps."""
    figure = Figure(figsize=(7, 8), layout="constrained")
    losses, errors, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.2))
    for name in sorted(scalars):
        if name.startswith(LOSS):
            _line(losses, scalars[name], name.removeprefix(LOSS))
    for name, label in NAMES.items():
        percent = {step: 100 * share for step, share in scalars.get(name, {}).items()}
        _line(errors, percent, label, marker="o")
    best = best_validation(scalars)
    if best is not None:
        step, recorded, crossed = best
        label = f"best, step {step}: {recorded:.2%}, {crossed:.2%}"
        errors.axvline(step, color="0.6", linewidth=0.9, linestyle="--", label=label)
    _line(rates, scalars.get(RATE, {}), "")
    losses.set(ylabel="loss")
    errors.set(ylabel="held-out EER (%)", ylim=(0, None))
    rates.set(ylabel="learning rate", xlabel="step", ylim=(0, None))
    for axes in (losses, errors):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize="small")
    return figure


def draw_speakers(points: Points, names: Sequence[str], corpora: Sequence[str]) -> Figure:
    """Draw points (clips, 2), a color for each speaker and a marker for each corpus."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot()
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    colors = colormaps["hsv"](np.array([places[name] for name in names]) * GOLDEN_SHARE % 1.0)
    for place, corpus in enumerate(sorted(set(corpora))):
        here = np.array([name == corpus for name in corpora])
        marker = MARKERS[place % len(MARKERS)]
        axes.scatter(
            points[here, 0], points[here, 1], c=colors[here], marker=marker, s=22, linewidths=0
        )
        axes.scatter([], [], c="0.4", marker=marker, s=22, label=corpus)
    axes.set(xticks=[], yticks=[], title=f"{len(places)} speakers, {len(names)} clips, t-SNE")
    axes.legend(frameon=False, fontsize="small")
    return figure


def _line(axes: Axes, series: Series, label: str, marker: str = "") -> None:
    axes.grid(color="0.92", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    if series:
        axes.plot(
            list(series), list(series.values()), label=label, marker=marker, ms=3, linewidth=1.2
        )
