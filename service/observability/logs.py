"""Logs: one line for each event, as text or as a JSON object, with the id of its request.

A line names the method, the status and the time; never a speaker, audio or a vector. An unexpected
exception is logged by its type and stack, without its message, which may quote secret data.
"""

import asyncio
import itertools
import json
import logging
import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO, TypeAlias

import grpc

from service.errors import SaysoError

REQUEST_ID_KEY = "x-request-id"
"""The metadata key of a request's id, in the call and in its trailing metadata."""

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Report: TypeAlias = Callable[[grpc.StatusCode, float], None]
"""Called with the final status of a call and its duration in seconds."""

Format: TypeAlias = Literal["text", "json"]

_FIELDS = ("request_id", "method", "code", "seconds")
_LOGGABLE = (SaysoError, OSError)
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_PROCESS = secrets.token_hex(8)
_numbers = itertools.count()
_request_id: ContextVar[str] = ContextVar("request_id", default="")

log = logging.getLogger(__name__)


def setup_logging(*, level: str, form: Format, stream: TextIO = sys.stderr) -> None:
    """Write the events of all loggers from `level` up to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    handler.addFilter(_RequestIdFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def get_request_id() -> str:
    """Return the id of the call in progress; empty outside of a call."""
    return _request_id.get()


@contextmanager
def log_calls(name: str, context: Context) -> Iterator[None]:
    """A guard: gives the request an id, sends it to the caller, and logs one line at the end."""
    _request_id.set(_read_id(context) or _make_id())
    context.set_trailing_metadata(((REQUEST_ID_KEY, get_request_id()),))

    def report(code: grpc.StatusCode, seconds: float) -> None:
        fields = {"method": name, "code": code.name, "seconds": round(seconds, 6)}
        log.info("%s %s %.1f ms", name, code.name, seconds * 1e3, extra=fields)

    with report_ending(context, report):
        yield


@contextmanager
def report_ending(
    context: Context, report: Report, *, clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    """Report the status and the seconds of a call once, however it ends.

    If the caller of a stream is gone while the server writes to it, the generator is closed instead
    of cancelled.
    """
    began_s = clock()
    is_abandoned = False
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        is_abandoned = True
        raise
    finally:
        report(
            _find_abandoned_code(context) if is_abandoned else _find_code(context),
            clock() - began_s,
        )


def _find_abandoned_code(context: Context) -> grpc.StatusCode:
    """Return the status that a caller sees who did not wait for the end."""
    remaining_s = context.time_remaining()
    late = remaining_s is not None and remaining_s <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


def _find_code(context: Context) -> grpc.StatusCode:
    """Return the status that was set; grpc reports an unset one as 0."""
    code = context.code()
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.OK


def _make_id() -> str:
    """Make an id that no other process makes, without a system call for a random number."""
    return f"{_PROCESS}{next(_numbers):016x}"


def _read_id(context: Context) -> str:
    """Return the caller's id if it is one that can be logged unchanged, else nothing."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _PLAIN_ID.fullmatch(value):
            return value
    return ""


class _RequestIdFilter(logging.Filter):
    """Adds the request's id to every record; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = get_request_id()
        return True


class _LineFormatter(logging.Formatter):
    """Formats times as RFC 3339 in UTC, to the millisecond."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        _, error, _ = ei
        return "".join(_format_error(error)) if error is not None else ""


class _TextFormatter(_LineFormatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s")


class _JsonFormatter(_LineFormatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = ((name, getattr(record, name, "")) for name in _FIELDS)
        line.update((name, value) for name, value in known if value != "")
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _format_error(error: BaseException) -> list[str]:
    """Format the error and those that caused it, the first one first."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = _format_error(before) if before is not None else []
    message = f": {error}" if isinstance(error, _LOGGABLE) else ""
    frames = traceback.format_tb(error.__traceback__)
    return [*lines, *frames, f"{type(error).__name__}{message}\n"]
