"""Record in the audit trail what an operator does on the server's machine."""

import os
from datetime import UTC, datetime
from pathlib import Path

from service.audit.entries import Action, Event
from service.audit.subjects import key_beside
from service.audit.trail import enter
from service.errors import SettingsError


def record(audit: Path | None, action: Action, outcome: str, tenant: str, **detail: str) -> None:
    """Write an entry under this user's id, if there is a trail; raises `SettingsError` if it cannot
    be written."""
    if audit is None:
        return
    credential = f"uid:{os.getuid()}"
    event = Event(action, outcome, tenant=tenant, credential=credential, detail=detail)
    try:
        at = datetime.now(UTC).timestamp()
        enter(audit, event, at=at, key=_key(audit))
    except OSError as error:
        raise SettingsError(f"SAYSO_AUDIT: cannot write {audit}: {error.strerror}") from error


def _key(audit: Path) -> Path:
    path = os.environ.get("SAYSO_AUDIT_KEY")
    return Path(path) if path else key_beside(audit)
