"""Who did what, when, and what came of it, in files that show it when they are changed.

rpc ─> auditor ─> trail ─> volumes ─> volume: audit-000001.jsonl ─> chain: is it whole?
                    ├─ subjects: speakers by pseudonym, under a key of the operator's
                    └─ heads: told to where an attacker is not

No audio, vector or speaker id is ever in it. docs/audit.md describes the files.
"""

from service.audit.auditor import Auditor, Change, Origin, Receipt
from service.audit.entries import Action, Event
from service.audit.heads import Heads
from service.audit.subjects import key_beside
from service.audit.trail import Sync, Trail, enter

__all__ = [
    "Action",
    "Auditor",
    "Change",
    "Event",
    "Heads",
    "Origin",
    "Receipt",
    "Sync",
    "Trail",
    "enter",
    "key_beside",
]
