"""Which rows rest on too few trials to rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIN_TRIALS = 30


def has_too_few(row: Mapping[str, Any]) -> bool:
    """Whether a row of a document has too few trials for its figures to mean anything.

    That is fewer than `MIN_TRIALS` targets or non-targets, or, in a row with an EER, an interval
    as wide as the EER itself: the true rate may be half of it or half as high again. An EER of 0
    counts as too few, since trials without an error do not say how rare errors are.
    """
    if min(row["targets"], row["nontargets"]) < MIN_TRIALS:
        return True
    eer = row.get("eer")
    if eer is None or eer["interval"] is None:
        return False
    return bool(eer["interval"]["high"] - eer["interval"]["low"] >= eer["value"])
