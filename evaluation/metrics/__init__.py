"""Error rates, costs and intervals of verification scores: arrays in, numbers out.

target and non-target scores ─> sweep.Sweep ─> eer, min_dcf, actual_dcf, cllr, ...
scores, sides (who is in each trial) ─> bootstrap ─> intervals ─┬─> figures
                                                                ├─> error_rates, at one threshold
                                                                ├─> comparison, of two systems
                                                                └─> fairness, of groups of people
embeddings ─> all_pairs ─> error rates of every pair, in constant memory
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
