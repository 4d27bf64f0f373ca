"""The report as one self-contained HTML page, rendered from the JSON documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from evaluation.report import few_trials, meaning, plots, tuning

Document = Mapping[str, Any]

TEMPLATES = Path(__file__).parent / "templates"


def render(evaluation: Document, extras: Mapping[str, Document]) -> str:
    """Render the page of an evaluation; `extras` are the documents of other commands by name."""
    systems = evaluation["systems"]
    judged = systems[0]
    points = {system["system"]: system["points"] for system in systems}
    drawings = {
        "det": plots.plot_det({system["system"]: system["det"] for system in systems}, points),
        "histogram": plots.plot_histogram(judged),
    }
    if len(judged["det_by_group"]) > 1:
        drawings["det_by_group"] = plots.plot_det(judged["det_by_group"], {})
    if judged["calibration"]:
        drawings["reliability"] = plots.plot_reliability(judged["calibration"])
    return _render_template(
        "report.html.jinja",
        evaluation=evaluation,
        judged=judged,
        systems=systems,
        plots={name: plots.render_svg(figure) for name, figure in drawings.items()},
        conditions=_arrange_grid(extras["conditions"]) if "conditions" in extras else None,
        promises=extras.get("promises"),
        variants=extras.get("variants"),
        meaning=meaning.say_meaning(evaluation),
        min_trials=few_trials.MIN_TRIALS,
    )


def render_comparison(compared: Document, systems: Sequence[Document]) -> str:
    """Render the page of `compare`: figures, overlaid curves, differences with intervals."""
    points = {system["name"]: system["points"] for system in systems}
    overlaid = plots.plot_det({system["name"]: system["det"] for system in systems}, points)
    return _render_template(
        "comparison.html.jinja", compared=compared, systems=systems, plot=plots.render_svg(overlaid)
    )


def render_tuning(told: Document) -> str:
    """Render the page of `tune`: the line, before and after, where the model falls short."""
    return _render_template(
        "tuning.html.jinja",
        told=told,
        line=list(tuning.describe_line(told["line"])),
        rates=tuning.list_rates(told) if told["before"] else [],
    )


def _arrange_grid(conditions: Document) -> Document:
    """Arrange the cells in rows of channels and columns of lengths."""
    cells = conditions["cells"]
    lengths = list(dict.fromkeys(cell["length"] for cell in cells))
    channels = list(dict.fromkeys(cell["channel"] for cell in cells))
    by_place = {(cell["channel"], cell["length"]): cell["figures"] for cell in cells}
    rows = {name: [by_place.get((name, length)) for length in lengths] for name in channels}
    rates = [cell["figures"]["eer"]["value"] for cell in cells]
    return {**conditions, "lengths": lengths, "rows": rows, "low": min(rates), "high": max(rates)}


def _render_template(template: str, **values: object) -> str:
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
    environment.tests["too_few"] = few_trials.has_too_few
    return environment.get_template(template).render(**values)


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(interval: Document | None, scale: float = 1, digits: int = 3) -> str:
    if interval is None:
        return ""
    return f"{scale * interval['low']:.{digits}f} to {scale * interval['high']:.{digits}f}"


def _uri(file: str) -> str:
    return Path(file).as_uri()
