"""Calls: live verification, identification and screening, and the models that hear them.

audio -> call -> verification  (one claimed speaker)
              -> screening, identification -> group index, search  (many speakers)
"""
