"""What a tuning found, in sentences and rows for the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RateRow:
    """An error rate before and after, in percent with its interval; "" if there is none."""

    name: str
    before: str
    after: str


def describe_line(line: Document) -> Iterator[str]:
    """Say what the recordings sound like, and which could not be used."""
    edges = f"{line['low_hz']['median']:.0f} to {line['high_hz']['median']:.0f} Hz"
    yield (
        f"{line['recordings']:,} recordings: {edges} ({line['narrow']:.0%} narrow band),"
        f" signal to noise {_spread(line['snr_db'])} dB, net speech {_spread(line['speech_s'])} s"
        f" (10%, half and 90% are below)"
    )
    if line["too_short"]:
        yield f"{line['too_short']:.1%} hold too little speech"
    if line["unreadable"]:
        count = len(line["unreadable"])
        yield f"{count} cannot be read; the first: {line['unreadable'][0]}"


def describe_result(told: Document) -> Iterator[str]:
    """Say what was kept, what is missing, and where the model falls short."""
    if told["promise"]:
        yield _describe_promise(told["promise"])
    if told["tuned"]:
        yield f"kept: {', '.join(told['kept'])}; the tuned model is {told['tuned']}"
    else:
        yield "nothing is shown to help, so no model was written"
    for sentence in told["missing"]:
        yield f"missing: {sentence}"
    for group in told["groups"]:
        if group["short"]:
            yield f"falls short, {group['by']} {group['name']}: {group['short']}"


def list_rates(told: Document) -> list[RateRow]:
    """List the error rates, before and after."""
    sides = [told["before"], told["after"]]
    promised = f"{100 * told['promised']:g}%"
    figures: dict[str, Callable[[Document], str]] = {
        "EER": lambda rates: _rate(rates["eer"]),
        f"impostors accepted, {promised} promised": lambda rates: _rate(rates["fmr"]),
        "genuine callers rejected there": lambda rates: _rate(rates["fnmr"]),
        f"rejected if exactly {promised} were accepted": (
            lambda rates: f"{100 * rates['fnmr_at_promise']:.2f}%"
        ),
    }
    return [
        RateRow(name, *("" if rates is None else write(rates) for rates in sides))
        for name, write in figures.items()
    ]


def _describe_promise(promise: Document) -> str:
    return (
        f"of impostors, {_rate(promise['own'])} pass the model's own threshold for"
        f" {promise['promised']:.2%}; with thresholds of these calls, {_rate(promise['measured'])}"
    )


def _rate(rate: Document | None) -> str:
    if rate is None:
        return "no calibration"
    interval = rate["interval"]
    text = f"{100 * rate['value']:.2f}%"
    if interval is None:
        return text
    return f"{text} ({100 * interval['low']:.2f} to {100 * interval['high']:.2f})"


def _spread(spread: Document) -> str:
    return f"{spread['low']:.1f}, {spread['median']:.1f}, {spread['high']:.1f}"
