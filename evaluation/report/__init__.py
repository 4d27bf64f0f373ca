"""From scored trials to what a person reads.

assessment (breakdowns, held_out, worst) ─> document ─> files ─┬─> evaluation.json, scores.tsv.gz
                                                               ├─> meaning, plots, page ─> report
                                                               └─> table ─> terminal
"""
