"""Copy heads of the trail to where an attacker on this machine cannot take them back.

Neither the chain nor the HMACs reveal that a trail's end was cut off, or that a holder of the key
rewrote all of it; a head kept elsewhere does.
"""

import logging
import re
import time
from collections.abc import Callable
from logging.handlers import SysLogHandler
from pathlib import Path
from urllib.parse import urlsplit

from service.audit.entries import Head, rfc3339
from service.errors import SettingsError

_SYSLOG_PORT = 514
_LINE = re.compile(rb"audit head \d+ ([0-9a-f]{64})\b")

log = logging.getLogger(__name__)


class Heads:
    """Writes heads to the log and to `target`: a file to append to, `syslog://host:port`, or empty
    for the log alone. Raises `SettingsError` for an unusable target."""

    def __init__(self, target: str = "", *, clock: Callable[[], float] = time.time) -> None:
        self._target = target
        self._send = _make_sender(target)
        self._clock = clock

    def publish(self, head: Head) -> None:
        """Publish `head`. An unreachable target is logged; the next head tries it again."""
        line = f"audit head {head.seq} {head.digest}"
        log.info(line)
        try:
            self._send(f"{rfc3339(self._clock())} {line}")
        except OSError as error:
            log.error("the audit head was not sent to %s: %s", self._target, error)


def read_digests(text: bytes) -> list[str]:
    """The digests of all heads in the text of a log or of a target file."""
    return [digest.decode() for digest in _LINE.findall(text)]


def _make_sender(target: str) -> Callable[[str], None]:
    if not target:
        return lambda line: None
    if target.startswith("syslog:"):
        return _to_syslog(target)
    path = Path(target)
    try:
        path.open("a").close()
    except OSError as error:
        raise SettingsError(f"SAYSO_AUDIT_HEADS: {path} cannot be written: {error}") from error
    return lambda line: _append(path, line)


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


def _to_syslog(target: str) -> Callable[[str], None]:
    """Send by UDP (RFC 3164), so that an unreachable collector delays nothing."""
    try:
        parts = urlsplit(target)
        handler = _Syslog((parts.hostname or "localhost", parts.port or _SYSLOG_PORT))
    except (OSError, ValueError) as error:
        raise SettingsError(f"SAYSO_AUDIT_HEADS: {target} is not reachable: {error}") from error
    return lambda line: handler.emit(logging.makeLogRecord({"msg": f"sayso: {line}"}))


class _Syslog(SysLogHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        raise  # noqa: PLE0704 - called inside of `except`; the default prints a traceback
