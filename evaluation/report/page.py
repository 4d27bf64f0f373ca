"""The report as one self-contained HTML page, rendered from the JSON documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from evaluation.report import plots

Document = Mapping[str, Any]

TEMPLATES = Path(__file__).parent / "templates"


def render(told: Document, extras: Mapping[str, Document]) -> str:
    """The page of an evaluation; `extras` are the documents of other commands by name."""
    systems = told["systems"]
    judged = systems[0]
    points = {system["system"]: system["points"] for system in systems}
    drawn = {
        "det": plots.plot_det({system["system"]: system["det"] for system in systems}, points),
        "histogram": plots.plot_histogram(judged),
    }
    if len(judged["det_by_group"]) > 1:
        drawn["det_by_group"] = plots.plot_det(judged["det_by_group"], {})
    if judged["calibration"]:
        drawn["reliability"] = plots.plot_reliability(judged["calibration"])
    return _page(
        "report.html.jinja",
        told=told,
        judged=judged,
        systems=systems,
        plots={name: plots.render_svg(figure) for name, figure in drawn.items()},
        conditions=_grid(extras["conditions"]) if "conditions" in extras else None,
        promises=extras.get("promises"),
        variants=extras.get("variants"),
    )


def render_comparison(compared: Document, systems: Sequence[Document]) -> str:
    """The page of `compare`: figures side by side, curves overlaid, differences with intervals."""
    points = {system["name"]: system["points"] for system in systems}
    overlaid = plots.plot_det({system["name"]: system["det"] for system in systems}, points)
    return _page(
        "comparison.html.jinja", compared=compared, systems=systems, plot=plots.render_svg(overlaid)
    )


def _grid(conditions: Document) -> Document:
    """The cells as rows of channels by columns of lengths."""
    cells = conditions["cells"]
    lengths = list(dict.fromkeys(cell["length"] for cell in cells))
    channels = list(dict.fromkeys(cell["channel"] for cell in cells))
    by_place = {(cell["channel"], cell["length"]): cell["figures"] for cell in cells}
    rows = {name: [by_place.get((name, length)) for length in lengths] for name in channels}
    rates = [cell["figures"]["eer"]["value"] for cell in cells]
    return {**conditions, "lengths": lengths, "rows": rows, "low": min(rates), "high": max(rates)}


def _page(template: str, **told: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, figure=_figure, interval=_interval, uri=_uri, count=_count
    )
    return environment.get_template(template).render(**told)


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(held: Document | None, scale: float = 1, digits: int = 3) -> str:
    if held is None:
        return ""
    return f"{scale * held['low']:.{digits}f} to {scale * held['high']:.{digits}f}"


def _uri(file: str) -> str:
    return Path(file).as_uri()
