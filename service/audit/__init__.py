"""A tamper-evident trail of who did what, when, and with what outcome.

rpc ─> auditor ─> trail ─> volumes ─> volume: audit-000001.jsonl ─> chain: verifies the files
                    ├─ subjects: pseudonyms of speakers, under the operator's key
                    └─ heads: latest digests, copied out of an attacker's reach

It never holds audio, vectors or speaker ids. docs/security/audit.md describes the files.
"""

from service.audit.auditor import Auditor, Change, Origin, Receipt
from service.audit.entries import Action, Event
from service.audit.subjects import key_beside
from service.audit.trail import Trail, enter

__all__ = [
    "Action",
    "Auditor",
    "Change",
    "Event",
    "Origin",
    "Receipt",
    "Trail",
    "enter",
    "key_beside",
]
