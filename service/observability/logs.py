"""Logs: one line an event, as text or as a JSON object, with the id of the request that it is of.

A line names the method, the status and the time; never a speaker, audio or a vector. An unexpected
exception is written as its type and where it was raised: its message may quote what it handled.
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
"""The metadata that a caller names a request in, and is told its name in."""

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Report: TypeAlias = Callable[[grpc.StatusCode, float], None]
"""Takes the status that a call ended with, and its seconds."""

Format: TypeAlias = Literal["text", "json"]

_FIELDS = ("request_id", "method", "code", "seconds")
_TOLD = (SaysoError, OSError)
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_PROCESS = secrets.token_hex(8)
_numbers = itertools.count()
_request_id: ContextVar[str] = ContextVar("request_id", default="")

log = logging.getLogger(__name__)


def setup(*, level: str, form: Format, stream: TextIO = sys.stderr) -> None:
    """Sends the lines of all loggers from `level` to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonLine() if form == "json" else _TextLine())
    handler.addFilter(_OfRequest())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def request_id() -> str:
    """That of the call in progress; empty outside of one."""
    return _request_id.get()


@contextmanager
def log_calls(name: str, context: Context) -> Iterator[None]:
    """A guard: names the request, tells the caller its name, and writes one line when it ends."""
    _request_id.set(_given_id(context) or _new_id())
    context.set_trailing_metadata(((REQUEST_ID_KEY, request_id()),))

    def report(code: grpc.StatusCode, seconds: float) -> None:
        fields = {"method": name, "code": code.name, "seconds": round(seconds, 6)}
        log.info("%s %s %.1f ms", name, code.name, seconds * 1e3, extra=fields)

    with report_ending(context, report):
        yield


@contextmanager
def report_ending(
    context: Context, report: Report, *, clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    """Reports the status and the seconds of a call once, however it ends.

    A stream whose caller is gone is closed rather than cancelled where it was being written.
    """
    began_s = clock()
    left = False
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        left = True
        raise
    finally:
        report(_abandoned(context) if left else _code(context), clock() - began_s)


def _abandoned(context: Context) -> grpc.StatusCode:
    """The status that a caller sees who did not wait."""
    remaining_s = context.time_remaining()
    late = remaining_s is not None and remaining_s <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


def _code(context: Context) -> grpc.StatusCode:
    """The status that was set; grpc reports an untouched one as 0."""
    code = context.code()
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.OK


def _new_id() -> str:
    """Unlike any of this process or another; a random number for each would take a system call."""
    return f"{_PROCESS}{next(_numbers):016x}"


def _given_id(context: Context) -> str:
    """The caller's id where it is one that a line can hold as it is."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _PLAIN_ID.fullmatch(value):
            return value
    return ""


class _OfRequest(logging.Filter):
    """Puts on every record of which request it is; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id()
        return True


class _Line(logging.Formatter):
    """Times are RFC 3339 in UTC, to the millisecond."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        _, error, _ = ei
        return "".join(_frames(error)) if error is not None else ""


class _TextLine(_Line):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s")


class _JsonLine(_Line):
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


def _frames(error: BaseException) -> list[str]:
    """The error and those that led to it, the first one first."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = _frames(before) if before is not None else []
    message = f": {error}" if isinstance(error, _TOLD) else ""
    frames = traceback.format_tb(error.__traceback__)
    return [*lines, *frames, f"{type(error).__name__}{message}\n"]
