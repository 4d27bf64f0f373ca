"""Plots, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import ndtri

from evaluation import metrics
from evaluation.metrics import Sweep

Floats = NDArray[np.float64]

PERCENT_TICKS = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90)
NEAREST = 1e-5


def det(sweeps: Mapping[str, Sweep]) -> Figure:
    """Detection error trade-off of each system on normal-deviate axes (Martin et al. 1997).

    Marks the EER, the corners of least DCF at priors 0.01 and 0.05, and stops where fewer than
    one error would be counted.
    """
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    axes = figure.add_subplot()
    for name, sweep in sweeps.items():
        _det_curve(axes, name, sweep)
    limits = ndtri([0.0005, 0.92])
    axes.plot(limits, limits, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set(xlabel="false-match rate (%)", ylabel="false-non-match rate (%)")
    ticks = [tick for tick in PERCENT_TICKS if limits[0] <= ndtri(tick / 100) <= limits[1]]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ndtri(np.array(ticks) / 100), [f"{tick:g}" for tick in ticks])
    axes.grid(color="0.9", linewidth=0.6)
    axes.legend(loc="upper right", frameon=False, fontsize="small")
    return figure


def _det_curve(axes: Axes, name: str, sweep: Sweep) -> None:
    fmr, fnmr = metrics.det(sweep)
    counted = (fmr > 0) & (fnmr > 0)
    (line,) = axes.plot(ndtri(fmr[counted]), ndtri(fnmr[counted]), linewidth=1.6)
    rate = metrics.eer(sweep)
    line.set_label(f"{name}, EER {rate:.2%}")
    marked = {"o": (rate, rate)}
    for prior, marker in ((0.05, "s"), (0.01, "^")):
        best = int(np.argmin(prior * sweep.fnmr + (1 - prior) * sweep.fmr))
        marked[marker] = (float(sweep.fmr[best]), float(sweep.fnmr[best]))
    for marker, rates in marked.items():
        at = ndtri(np.maximum(rates, NEAREST))
        axes.plot(*at, marker, color=line.get_color(), markersize=5)
