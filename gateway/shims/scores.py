"""Scores as the ended services had them: no log-likelihood ratios, but shares of one."""

import math

from sayso import Decision


def scale_llr(llr: float, threshold_llr: float) -> float:
    """A log-likelihood ratio as 0 to 1: 0.5 is the threshold, by the logistic function."""
    distance = max(-60.0, min(60.0, llr - threshold_llr))
    return 1.0 / (1.0 + math.exp(-distance))


def scale_decision(decision: Decision) -> float | None:
    """A decision's score as 0 to 1, at least 0.5 if it is accepted and less if it is rejected; None
    without the role `analyze`, or if nothing was compared."""
    if decision.llr is None or decision.threshold_llr is None:
        return None
    score = scale_llr(decision.llr, decision.threshold_llr)
    if decision.accepted:
        return max(score, 0.5)
    return min(score, math.nextafter(0.5, 0.0)) if decision.outcome == "REJECTED" else score
