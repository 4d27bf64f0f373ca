"""Pages of docs/ that are written from the code, so that they cannot differ from it.

settings ─> docs/settings.md
api ──────> docs/integrate/api.md

`make reference` writes them; a test fails when the committed pages are not what the code says.
"""
