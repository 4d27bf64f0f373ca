"""Everything that can go wrong, sorted by who must act.

    SaysoError                  INTERNAL             a defect here; sent without detail
    ├── InvalidArgument         INVALID_ARGUMENT     the caller corrects the request
    │   └── AudioError                               ... the audio in it
    ├── Unauthenticated         UNAUTHENTICATED      the caller sends a valid credential
    ├── PermissionDenied        PERMISSION_DENIED    the caller asks for another role
    ├── NotFound                NOT_FOUND            the caller names something that exists
    ├── AlreadyExists           ALREADY_EXISTS       the caller chooses another name
    ├── FailedPrecondition      FAILED_PRECONDITION  the caller changes the state first
    │   └── SpeakerLocked                            ... waits, or asks an operator to unlock
    ├── Aborted                 ABORTED              the caller reads again and retries
    ├── TimedOut                DEADLINE_EXCEEDED    the caller sends sooner
    ├── Overloaded              RESOURCE_EXHAUSTED   the caller waits `retry_after_s`
    │   └── OverLimit                                ... because it used up its own share
    ├── Unavailable             UNAVAILABLE          the operator brings back what is away
    │   └── StillReadable                            ... or ends what reads what was erased
    └── StartupError            (never on the wire)  the operator corrects the installation
        ├── SettingsError                            ... an environment variable or flag
        ├── ModelError                               ... the model file
        │   └── ContractError                        ... the contract inside it
        └── StoreError                               ... the store's address or schema

Raised deep, mapped to a status in one place: `service.rpc.interceptors`.
"""

from enum import StrEnum
from typing import ClassVar

import grpc

ERROR_DOMAIN = "sayso"


class ErrorReason(StrEnum):
    """Names an error for programs (google.rpc.ErrorInfo), for ever; docs/integrate/errors.md says
    what to do about each."""

    INTERNAL = "INTERNAL"
    INVALID_FIELD = "INVALID_FIELD"
    UNREADABLE_AUDIO = "UNREADABLE_AUDIO"
    INVALID_CREDENTIAL = "INVALID_CREDENTIAL"
    ROLE_MISSING = "ROLE_MISSING"
    OWN_ENROLLMENT = "OWN_ENROLLMENT"
    NOT_FOUND = "NOT_FOUND"
    SPEAKER_NOT_FOUND = "SPEAKER_NOT_FOUND"
    GROUP_NOT_FOUND = "GROUP_NOT_FOUND"
    CALL_NOT_FOUND = "CALL_NOT_FOUND"
    GROUP_EXISTS = "GROUP_EXISTS"
    GROUP_LIMIT = "GROUP_LIMIT"
    SPEAKER_LOCKED = "SPEAKER_LOCKED"
    SPEAKER_OPTED_OUT = "SPEAKER_OPTED_OUT"
    SPEAKER_NOT_OPTED_OUT = "SPEAKER_NOT_OPTED_OUT"
    CONSENT_REQUIRED = "CONSENT_REQUIRED"
    NOTHING_TO_UNDO = "NOTHING_TO_UNDO"
    NOTHING_TO_CONFIRM = "NOTHING_TO_CONFIRM"
    MODEL_UNCALIBRATED = "MODEL_UNCALIBRATED"
    SEARCH_LIMIT = "SEARCH_LIMIT"
    WRONG_STATE = "WRONG_STATE"
    CONCURRENT_CHANGE = "CONCURRENT_CHANGE"
    SENT_TOO_SLOWLY = "SENT_TOO_SLOWLY"
    OVERLOADED = "OVERLOADED"
    TENANT_QUOTA = "TENANT_QUOTA"
    UNAVAILABLE = "UNAVAILABLE"
    ERASURE_PENDING = "ERASURE_PENDING"
    EVENTS_OFF = "EVENTS_OFF"


class SaysoError(Exception):
    """Root of the tree; `code` is the gRPC status that a caller sees.

    `reason` is the class's own unless the error is raised with a narrower one. `retry_after_s` is
    None unless another try is worth while after so many seconds.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ErrorReason = ErrorReason.INTERNAL
    retry_after_s: float | None = None

    def __init__(self, message: str, *, reason: ErrorReason | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason

    @property
    def status_message(self) -> str:
        """The message of the gRPC status."""
        return self.message


class InvalidArgument(SaysoError):
    """A request field is wrong; `field` is its path in the request, e.g. `group_name`."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = ErrorReason.INVALID_FIELD

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field

    @property
    def status_message(self) -> str:
        return f"{self.field}: {self.message}"


class AudioError(InvalidArgument):
    """The audio cannot be decoded, or is not what the request says it is."""

    reason = ErrorReason.UNREADABLE_AUDIO

    def __init__(self, message: str, *, field: str = "audio") -> None:
        super().__init__(message, field=field)


class Unauthenticated(SaysoError):
    """The call has no valid credential; the message never repeats the one it has."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = ErrorReason.INVALID_CREDENTIAL


class PermissionDenied(SaysoError):
    """The credential lacks the role that the call needs, which the message names."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = ErrorReason.ROLE_MISSING


class NotFound(SaysoError):
    code = grpc.StatusCode.NOT_FOUND
    reason = ErrorReason.NOT_FOUND


class AlreadyExists(SaysoError):
    code = grpc.StatusCode.ALREADY_EXISTS
    reason = ErrorReason.GROUP_EXISTS


class FailedPrecondition(SaysoError):
    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = ErrorReason.WRONG_STATE


class SpeakerLocked(FailedPrecondition):
    """Too many verifications of the speaker failed: wait `retry_after_s` or, if it is None, have an
    operator unlock it. The message does not say who failed, how often or how closely."""

    reason = ErrorReason.SPEAKER_LOCKED

    def __init__(self, retry_after_s: float | None) -> None:
        then = (
            "verification is disabled until an administrator unlocks it"
            if retry_after_s is None
            else f"try again in {retry_after_s:.0f} s, or have an administrator unlock it"
        )
        super().__init__(f"too many verifications of this speaker failed; {then}")
        self.retry_after_s = retry_after_s


class Aborted(SaysoError):
    """The record changed between the caller's read and its write."""

    code = grpc.StatusCode.ABORTED
    reason = ErrorReason.CONCURRENT_CHANGE


class TimedOut(SaysoError):
    """A caller sent nothing for too long."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = ErrorReason.SENT_TOO_SLOWLY


class Overloaded(SaysoError):
    """A queue is full or a limit is reached; a retry after `retry_after_s` seconds may succeed."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = ErrorReason.OVERLOADED

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverLimit(Overloaded):
    """The caller, or its tenant, has used up what it may use; the server itself has room."""

    reason = ErrorReason.TENANT_QUOTA


class Unavailable(SaysoError):
    """A dependency of the server, such as the store, is temporarily unavailable."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = ErrorReason.UNAVAILABLE


class StillReadable(Unavailable):
    """Data was erased from the store, but a copy of it beside the store could not be removed."""

    reason = ErrorReason.ERASURE_PENDING


class StartupError(SaysoError):
    """The server cannot start; the message tells the operator what to correct."""


class SettingsError(StartupError):
    pass


class ModelError(StartupError):
    """The model file is missing, corrupt, or not a waveform-in, embedding-out graph."""


class ContractError(ModelError):
    """The metadata block is missing, of another schema version, or contradicts the graph."""


class StoreError(StartupError):
    """The store's address is malformed, or its schema is not one that this server reads."""


def copy_for_caller(error: BaseException) -> BaseException:
    """A copy of the error for one waiting caller. A shared instance would keep every caller's
    traceback alive."""
    kind = type(error)
    copy = kind.__new__(kind, *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error
    return copy
