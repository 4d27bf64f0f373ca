"""From clips to log-likelihood ratios, as the service makes them.

clips ─> embeddings (served | baseline, kept in cache) ─> scores ─> measures ─> calibration ─> llr
                                                            │
                                            normalization, backends
"""
