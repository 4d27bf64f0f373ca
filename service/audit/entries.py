"""An entry of the audit trail: one line of JSON, which holds the SHA-256 of the line before it and,
last, an HMAC-SHA256 of itself: who changes a line and all that follow needs the key for it."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

GENESIS = "0" * 64
"""What the first entry of a trail follows."""


class Action(StrEnum):
    """What was done; the value is how the trail spells it."""

    ENROL = "enrol"
    VERIFY = "verify"
    IDENTIFY = "identify"
    ADAPT = "adapt"
    MOVE = "move"
    UPDATE = "update"
    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"
    UNDO = "undo"
    CONFIRM = "confirm"
    EXPORT = "export"
    DELETE = "delete"
    EXPIRE = "expire"
    LOCK = "lock"
    UNLOCK = "unlock"
    GROUP = "group"
    KEY = "key"
    ADMIN = "admin"
    REPAIR = "repair"
    LOST = "lost"


DECISIONS = frozenset({Action.VERIFY, Action.IDENTIFY})
"""What changes nothing that is kept of anybody."""


@dataclass(frozen=True, slots=True)
class Event:
    """What an entry tells. `subject` is a speaker's pseudonym, `credential` names what the caller
    showed, `llr` and `threshold_llr` are natural-log likelihood ratios; `detail` holds short facts
    of one action and never names a speaker."""

    action: Action
    outcome: str
    tenant: str = ""
    credential: str = ""
    subject: str = ""
    reasons: tuple[str, ...] = ()
    model_id: str = ""
    llr: float | None = None
    threshold_llr: float | None = None
    request_id: str = ""
    detail: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a trail so far: its number in the trail and its SHA-256 in hexadecimal."""

    seq: int
    digest: str


START = Head(0, GENESIS)

_CODE = b',"hmac":"'


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it was entered at `at`, seconds since the epoch; `line` ends with a newline."""

    event: Event
    head: Head
    at: float
    line: bytes


def entered(event: Event, after: Head, at: float, key: bytes) -> Entry:
    """The entry of `event` that follows `after`, with a code under `key`."""
    facts: dict[str, Any] = {
        "seq": after.seq + 1,
        "prev": after.digest,
        "time": rfc3339(at),
        "action": event.action.value,
        "outcome": event.outcome,
        "tenant": event.tenant,
        "credential": event.credential,
        "subject": event.subject,
        "reasons": list(event.reasons),
        "model_id": event.model_id,
        "llr": _rounded(event.llr),
        "threshold_llr": _rounded(event.threshold_llr),
        "request_id": event.request_id,
        "detail": {name: value for name, value in event.detail.items() if value},
    }
    kept = {name: value for name, value in facts.items() if value not in ("", [], None, {})}
    text = json.dumps(kept, separators=(",", ":")).encode()
    line = text[:-1] + _CODE + _code(text, key) + b'"}\n'
    return Entry(event, Head(after.seq + 1, digest(line)), at, line)


def parsed(line: bytes) -> Mapping[str, Any] | None:
    """The facts in a line, or None for one that is no entry."""
    try:
        facts = json.loads(line)
        if isinstance(facts["seq"], int) and isinstance(facts["prev"], str):
            return dict(facts)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def authentic(line: bytes, key: bytes) -> bool:
    """Whether the code at the end of a line was made with `key`."""
    text, mark, end = line.removesuffix(b"\n").rpartition(_CODE)
    return bool(mark) and hmac.compare_digest(end, _code(text + b"}", key) + b'"}')


def _code(text: bytes, key: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).hexdigest().encode()


def digest(line: bytes) -> str:
    """SHA-256 of a line without its newline, in hexadecimal."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def rfc3339(at: float) -> str:
    """UTC, to the microsecond (RFC 3339)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 2)
