"""What an evaluation means, in one sentence for a reader who knows no error rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.report import few_trials

Document = Mapping[str, Any]

BASES = (100, 1000, 10_000)


def say_meaning(evaluation: Document) -> str:
    """Say how many impostors are accepted and how many genuine callers are rejected.

    At the model's own operating point; without one, at the threshold that accepts 1% of the
    impostors of these trials.
    """
    own = evaluation.get("operating_point")
    if own:
        threshold = "At the model's own threshold"
        accepted, rejected = own["accepted"]["value"], own["rejected"]["value"]
    else:
        (fixed,) = [one for one in evaluation["systems"][0]["points"] if one["name"] == "FMR 1%"]
        threshold = "At a threshold chosen on these very trials"
        accepted, rejected = fixed["fmr"], fixed["fnmr"]
    sentence = (
        f"{threshold}, {_say_share(accepted, 'impostors', 'accepted')},"
        f" and {_say_share(rejected, 'genuine callers', 'rejected')}"
    )
    if few_trials.has_too_few(evaluation["systems"][0]["groups"]["pooled"]):
        sentence += "; but these are too few trials to rely on it"
    return f"{sentence}."


def _say_share(rate: float, people: str, outcome: str) -> str:
    """Say `rate` as a count of the smallest round number of people of whom one is concerned."""
    if rate == 0:
        return f"none of the {people} is {outcome}"
    for base in BASES:
        if count := round(rate * base):
            counted = "one is" if count == 1 else f"{count:,} are"
            return f"of {base:,} {people} {counted} {outcome}"
    return f"of {BASES[-1]:,} {people} fewer than one is {outcome}"
