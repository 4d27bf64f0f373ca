"""Entries of the audit trail: lines of JSON that each hold the SHA-256 of the previous line and end
with their own HMAC-SHA256, so that rewriting them takes the key."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

GENESIS = "0" * 64
"""The digest that the first entry of a trail holds."""


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
"""Actions that change nothing stored about anybody."""


@dataclass(frozen=True, slots=True)
class Event:
    """The content of an entry.

    `subject` is a speaker's pseudonym, `credential` names the caller's credential, `llr` and
    `threshold_llr` are natural-log likelihood ratios; `detail` holds short facts of one action and
    never names a speaker.
    """

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

_HMAC = b',"hmac":"'


@dataclass(frozen=True, slots=True)
class Entry:
    """An event recorded at `at`, in seconds since the epoch; `line` ends with a newline."""

    event: Event
    head: Head
    at: float
    line: bytes


def make_entry(event: Event, after: Head, at: float, key: bytes) -> Entry:
    """The entry of `event` that follows `after`, with its HMAC under `key`."""
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
        "llr": _round(event.llr),
        "threshold_llr": _round(event.threshold_llr),
        "request_id": event.request_id,
        "detail": {name: value for name, value in event.detail.items() if value},
    }
    present = {name: value for name, value in facts.items() if value not in ("", [], None, {})}
    text = json.dumps(present, separators=(",", ":")).encode()
    line = text[:-1] + _HMAC + _hmac(text, key) + b'"}\n'
    return Entry(event, Head(after.seq + 1, digest(line)), at, line)


def parse_line(line: bytes) -> Mapping[str, Any] | None:
    """The fields of a line, or None if it is not an entry."""
    try:
        facts = json.loads(line)
        if isinstance(facts["seq"], int) and isinstance(facts["prev"], str):
            return dict(facts)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def is_authentic(line: bytes, key: bytes) -> bool:
    """Whether the HMAC at the end of a line was made with `key`."""
    text, mark, end = line.removesuffix(b"\n").rpartition(_HMAC)
    return bool(mark) and hmac.compare_digest(end, _hmac(text + b"}", key) + b'"}')


def _hmac(text: bytes, key: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).hexdigest().encode()


def digest(line: bytes) -> str:
    """SHA-256 of a line without its newline, in hexadecimal."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def rfc3339(at: float) -> str:
    """UTC, to the microsecond (RFC 3339)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _round(llr: float | None) -> float | None:
    return None if llr is None else round(llr, 2)
