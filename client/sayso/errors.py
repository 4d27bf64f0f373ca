"""What a call can end with, sorted by what to do about it.

    SaysoError              any other status     report it, with its `request_id`
    ├── InvalidArgument     INVALID_ARGUMENT     correct the request: `field`
    ├── Unauthenticated     UNAUTHENTICATED      show a credential that is valid
    ├── PermissionDenied    PERMISSION_DENIED    use a credential that has the role
    ├── NotFound            NOT_FOUND            name something that exists
    ├── AlreadyExists       ALREADY_EXISTS       choose another name
    ├── FailedPrecondition  FAILED_PRECONDITION  change the state first
    │   └── SpeakerLocked                        ... wait `retry_after_s`, or have it unlocked
    ├── Aborted             ABORTED              read again, then retry
    ├── TimedOut            DEADLINE_EXCEEDED    retry, or allow more time
    ├── Overloaded          RESOURCE_EXHAUSTED   retry after `retry_after_s`
    ├── Unavailable         UNAVAILABLE          retry; the server, or its store, is away
    └── SettingsError       (before any call)    correct the arguments of the client

docs/integrate/client.md lists which of them are worth a retry.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with a field; `field` is its path in the request, e.g. `audio.sample_rate`."""

    field: str
    description: str


class SaysoError(Exception):
    """Root of the tree; the exception of gRPC, if there is one, is its `__cause__`.

    `message` is one sentence for people. `reason` names the error for programs and never changes;
    it is empty if `code` says it all. `retry_after_s` is set if the server says when to try again.
    `metadata` is what else it says of the reason. The server's log has `request_id` in every line.
    """

    code = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        retry_after_s: float | None = None,
        violations: tuple[FieldViolation, ...] = (),
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.violations = violations
        self.metadata = dict(metadata or {})
        self.request_id = request_id


class InvalidArgument(SaysoError):
    code = grpc.StatusCode.INVALID_ARGUMENT

    @property
    def field(self) -> str:
        """The path of the first wrong field; empty if it is the request as a whole."""
        return self.violations[0].field if self.violations else ""


class Unauthenticated(SaysoError):
    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(SaysoError):
    """The credential lacks the role that the call needs, which the message names."""

    code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(SaysoError):
    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(SaysoError):
    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(SaysoError):
    code = grpc.StatusCode.FAILED_PRECONDITION


class SpeakerLocked(FailedPrecondition):
    """Too many verifications of the speaker failed: wait `retry_after_s` or, if it is None, have an
    operator unlock it."""


class Aborted(SaysoError):
    """The record changed between the caller's read and its write."""

    code = grpc.StatusCode.ABORTED


class TimedOut(SaysoError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Overloaded(SaysoError):
    """A queue is full or a limit is reached; `reason` says whose."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(SaysoError):
    code = grpc.StatusCode.UNAVAILABLE


class SettingsError(SaysoError):
    """An argument of the client cannot be used, such as a certificate that is not there."""

    code = grpc.StatusCode.INVALID_ARGUMENT
