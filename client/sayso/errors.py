"""What a call can end with, sorted by what to do about it.

SaysoError              any other status     report it, with its `request_id`
├── InvalidArgument     INVALID_ARGUMENT     correct the request: `field`
├── Unauthenticated     UNAUTHENTICATED      show a credential that is valid
├── PermissionDenied    PERMISSION_DENIED    ask for a credential with another role
├── NotFound            NOT_FOUND            name something that exists
├── AlreadyExists       ALREADY_EXISTS       choose another name
├── FailedPrecondition  FAILED_PRECONDITION  change the state first
│   └── SpeakerLocked                        ... wait `retry_after_s`, or have it unlocked
├── Aborted             ABORTED              read again, then retry
├── TimedOut            DEADLINE_EXCEEDED    retry, or allow more time
├── Overloaded          RESOURCE_EXHAUSTED   retry after `retry_after_s`
├── Unavailable         UNAVAILABLE          retry; the server, or its store, is away
└── SettingsError       (before any call)    correct the arguments of `Client`
"""

from typing import ClassVar

import grpc


class SaysoError(Exception):
    """Root of the tree. `reason` names the error for programs, for ever; empty where the code says
    it all. `retry_after_s` is None unless another try is worth while after so many seconds."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = ""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class InvalidArgument(SaysoError):
    """A request field is wrong; `field` is its path in the request, e.g. `audio.sample_rate`."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


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

    reason = "SPEAKER_LOCKED"


class Aborted(SaysoError):
    """The record changed between the caller's read and its write."""

    code = grpc.StatusCode.ABORTED


class TimedOut(SaysoError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Overloaded(SaysoError):
    """A queue is full or a limit is reached."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(SaysoError):
    code = grpc.StatusCode.UNAVAILABLE


class SettingsError(SaysoError):
    """An argument of `Client` cannot be used, such as a certificate that is not there."""
