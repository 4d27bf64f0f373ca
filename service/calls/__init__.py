"""Calls: live verification, identification and screening, and the models that embed them.

live ─> running decision ─> claims ─> verification           one claimed speaker, or a household
     └> screening ────────> identification ─> matching       the members of groups
                                              └ group index ─> search, ranking

`models` chooses the loaded model for a call; `migration` replaces it while speakers move from one
model to the next.
"""
