"""Which comparisons are made: clips, their speakers, and the trials between them.

manifest ─> clips ─┬─> trials.pairs ─────────────┬─> Trials ─> labels (which of them to keep)
sampling (a few) ──┘                             │
list, enrollment map ─> lists ───────────────────┤
score file of another system ─> score_files ─────┘
"""
