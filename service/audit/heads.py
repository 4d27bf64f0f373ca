"""Heads of the trail, told where an attacker on this machine cannot unsay them.

The chain and its codes do not show that a trail was cut off, nor that whoever has its key wrote all
of it anew; a head that is kept elsewhere does.
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
    """Tells heads to the log and to `target`: a file to append to, `syslog://host:port`, or empty
    for the log alone. Raises `SettingsError` for a target that cannot be told."""

    def __init__(self, target: str = "", *, clock: Callable[[], float] = time.time) -> None:
        self._target = target
        self._send = _sender(target)
        self._clock = clock

    def tell(self, head: Head) -> None:
        """A target that cannot be reached is an error in the log; the next head tries again."""
        line = f"audit head {head.seq} {head.digest}"
        log.info(line)
        try:
            self._send(f"{rfc3339(self._clock())} {line}")
        except OSError as error:
            log.error("the audit head was not told to %s: %s", self._target, error)


def digests(told: bytes) -> list[str]:
    """The digests of all heads in what was told: a log, or the file of a target."""
    return [found.decode() for found in _LINE.findall(told)]


def _sender(target: str) -> Callable[[str], None]:
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
    """By UDP (RFC 3164): nothing waits for a collector that is away."""
    try:
        parts = urlsplit(target)
        handler = _Syslog((parts.hostname or "localhost", parts.port or _SYSLOG_PORT))
    except (OSError, ValueError) as error:
        raise SettingsError(f"SAYSO_AUDIT_HEADS: {target} is not reachable: {error}") from error
    return lambda line: handler.emit(logging.makeLogRecord({"msg": f"sayso: {line}"}))


class _Syslog(SysLogHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        raise  # noqa: PLE0704 - called inside of `except`; the default prints a traceback
