"""Decisions: two embeddings to a cosine, a calibrated log-likelihood ratio and a typed outcome.

embeddings ────────────> scoring ───┬─> decision
policy, calibration ──> thresholds ┘
"""
