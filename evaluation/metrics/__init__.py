"""Error rates, costs and intervals of verification scores: arrays in, numbers out.

scores of both classes ─> Sweep ─> eer, min_dcf, actual_dcf, cllr, ...  exact
                     └─> bootstrap ─> intervals ─> figures, comparison, fairness
"""

from evaluation.metrics.sweep import (
    Point,
    Sweep,
    actual_dcf,
    bayes_threshold,
    cllr,
    det,
    eer,
    eer_interpolated,
    eer_of_rates,
    fnmr_at_fmr,
    min_cllr,
    min_dcf,
    min_dcf_point,
    pav_llr,
    point_at_fmr,
)

__all__ = [
    "Point",
    "Sweep",
    "actual_dcf",
    "bayes_threshold",
    "cllr",
    "det",
    "eer",
    "eer_interpolated",
    "eer_of_rates",
    "fnmr_at_fmr",
    "min_cllr",
    "min_dcf",
    "min_dcf_point",
    "pav_llr",
    "point_at_fmr",
]
