"""Everything that measures, and the pages written from the results.

speed/ ────┐
security/ ─┼─> figures ─> results/*.json ─> report ─> README.md, docs/benchmarks.md
accuracy/ ─┴─> pages ───────────────────────────────> tables of other pages of docs/
reference/ ─> pages of docs/ that are written from the code
"""
