"""Plots of evaluation documents, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle, product
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import ndtri

Document = Mapping[str, Any]

PERCENT_TICKS = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90)
LIMITS = (0.0005, 0.92)
MARKERS = ("o", "s", "^", "D")
LLR_LIMIT = 9
# Okabe and Ito's colors, which those who see red and green alike tell apart. Yellow is left out:
# it is hard to see on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = tuple(product(("-", "--", ":"), COLORS))
TARGET, NONTARGET = COLORS[:2]


def plot_det(curves: Mapping[str, Document], points: Mapping[str, Sequence[Document]]) -> Figure:
    """Detection error trade-off on normal-deviate axes (Martin et al. 1997).

    `curves` hold `fmr` and `fnmr` by name; `points` the operating points to mark on them.
    """
    figure, axes = _axes(5.6, 5.2)
    limits = ndtri(LIMITS)
    axes.plot(limits, limits, color="0.85", linewidth=0.8, zorder=0)
    for (name, curve), (dashes, color) in zip(curves.items(), cycle(STYLES), strict=False):
        fmr, fnmr = np.array(curve["fmr"]), np.array(curve["fnmr"])
        counted = (fmr > 0) & (fnmr > 0)
        at = ndtri(fmr[counted]), ndtri(fnmr[counted])
        axes.plot(*at, dashes, color=color, linewidth=1.6, label=name)
        for marker, point in zip(MARKERS, points.get(name, ()), strict=False):
            at = ndtri(np.clip([point["fmr"], point["fnmr"]], LIMITS[0], LIMITS[1]))
            axes.plot(*at, marker, color=color, markersize=5.5)
    marked: Sequence[Document] = next(iter(points.values()), ())
    for marker, point in zip(MARKERS, marked, strict=False):
        axes.plot([], [], marker, color="0.4", markersize=5.5, label=point["name"])
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set(xlabel="false-match rate (%)", ylabel="false-non-match rate (%)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(_deviates(PERCENT_TICKS), [f"{tick:g}" for tick in PERCENT_TICKS])
    axes.grid(color="0.92", linewidth=0.7)
    axes.legend(loc="upper right", frameon=False, fontsize="small")
    return figure


def plot_histogram(system: Document) -> Figure:
    """Densities of target and non-target scores."""
    figure, axes = _axes(5.6, 3.2)
    densities = system["histogram"]
    for kind, color, label in (
        ("nontarget", NONTARGET, "different speakers"),
        ("target", TARGET, "same speaker"),
    ):
        axes.stairs(densities[kind], densities["edges"], fill=True, alpha=0.25, color=color)
        axes.stairs(densities[kind], densities["edges"], color=color, linewidth=1.2, label=label)
    axes.set(xlabel="score", ylabel="density", yticks=[])
    axes.legend(frameon=False, fontsize="small")
    return figure


def plot_reliability(calibration: Document) -> Figure:
    """Claimed against observed log-likelihood ratio, before and after calibration."""
    figure, axes = _axes(5.6, 4.2)
    ends = (-LLR_LIMIT, LLR_LIMIT)
    axes.plot(ends, ends, color="0.75", linewidth=1, zorder=0)
    labels = {"before": "raw score taken as a ratio", "after": "calibrated, cross-validated"}
    for name, color in (("before", NONTARGET), ("after", TARGET)):
        curve = calibration[name]
        label = f"{labels[name]}: Cllr {curve['cllr']:.3f}"
        axes.plot(curve["claimed"], curve["observed"], "o-", color=color, markersize=3, label=label)
    axes.set(xlim=ends, ylim=ends, xlabel="claimed ratio (ln)", ylabel="observed ratio (ln)")
    axes.grid(color="0.92", linewidth=0.7)
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def render_svg(figure: Figure) -> str:
    """The figure as an SVG element to put into a page."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sayso"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _deviates(percent: Sequence[float]) -> NDArray[np.float64]:
    deviates: NDArray[np.float64] = ndtri(np.array(percent) / 100)
    return deviates
