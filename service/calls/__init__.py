"""Calls: live verification, identification and screening, and the models that embed them.

live ─> running decision ─> verification            one claimed speaker
     └> screening ────────> identification ─> group index, search     the members of groups

`models` says which loaded model a call needs, `migration` what changes while one model takes over
from another.
"""
