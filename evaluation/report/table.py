"""Figures as a table in a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from evaluation.metrics.figures import Figure, Figures


def draw_table(title: str) -> Table:
    """An empty table in the style of all commands."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)


def make_table(groups: Mapping[str, Figures], title: str) -> Table:
    """One row for each group of trials, 95% intervals below their value."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trials", overflow="fold")
    calibrated = any(figures.calibrated for figures in groups.values())
    columns = ["targets\nothers", "EER %", "minDCF\n0.01", "minDCF\n0.05"]
    for column in [*columns, *(["Cllr\nleast"] if calibrated else [])]:
        table.add_column(column, justify="right", no_wrap=True)
    for name, figures in groups.items():
        table.add_row(f"{name}\n{figures.speakers} speakers", *_cells(figures))
    return table


def _cells(figures: Figures) -> list[str]:
    cells = [f"{figures.targets:,}\n{figures.nontargets:,}"]
    cells.append(_figure(figures.eer, scale=100))
    cells += [_figure(figures.min_dcf[prior]) for prior in (0.01, 0.05)]
    if figures.calibrated is not None:
        cells.append(f"{figures.calibrated.cllr:.3f}\n{figures.calibrated.min_cllr:.3f}")
    return cells


def _figure(figure: Figure, *, scale: float = 1) -> str:
    value = f"{scale * figure.value:.2f}"
    if figure.interval is None:
        return value
    return f"{value}\n{scale * figure.interval.low:.2f}-{scale * figure.interval.high:.2f}"
