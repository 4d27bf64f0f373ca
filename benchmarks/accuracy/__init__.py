"""How well models tell voices apart, and how soon.

systems     several systems on the same trials, clean, telephone and noisy
calls ─> encounters ─> sequential    how often the sequential test errs, and how soon it decides
"""
