"""Everything that can go wrong, sorted by who must act.

    SaysoError                  INTERNAL             a defect here; told without detail
    ├── InvalidArgument         INVALID_ARGUMENT     the caller corrects the request
    │   └── AudioError                               ... the audio in it
    ├── Unauthenticated         UNAUTHENTICATED      the caller shows a credential that holds
    ├── PermissionDenied        PERMISSION_DENIED    the caller asks for another role
    ├── NotFound                NOT_FOUND            the caller names something that exists
    ├── AlreadyExists           ALREADY_EXISTS       the caller chooses another name
    ├── FailedPrecondition      FAILED_PRECONDITION  the caller changes the state first
    │   └── SpeakerLocked                            ... waits, or asks an operator to unlock
    ├── Aborted                 ABORTED              the caller reads again and retries
    ├── TimedOut                DEADLINE_EXCEEDED    the caller sends sooner
    ├── Overloaded              RESOURCE_EXHAUSTED   the caller waits `retry_after_s`
    │   └── OverLimit                                ... as it used up a share of its own
    ├── Unavailable             UNAVAILABLE          the operator brings back what is away
    │   └── StillReadable                            ... or ends what reads what was erased
    └── StartupError            (never on the wire)  the operator corrects the installation
        ├── SettingsError                            ... an environment variable or flag
        ├── ModelError                               ... the model file
        │   └── ContractError                        ... the contract inside it
        └── StoreError                               ... the store's address or schema

Raised deep, mapped to a status in one place: `service.rpc.interceptors`.
"""

from typing import ClassVar

import grpc

ERROR_DOMAIN = "sayso"


class SaysoError(Exception):
    """Root of the tree; `code` is the gRPC status that a caller sees.

    `reason` names the error for programs, within `ERROR_DOMAIN` and for ever; empty where the code
    says it all. `retry_after_s` is None unless another try is worth while after so many seconds.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = ""
    retry_after_s: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def status_message(self) -> str:
        """What the status that a caller sees says."""
        return self.message


class InvalidArgument(SaysoError):
    """A request field is wrong; `field` is its path in the request, e.g. `audio.sample_rate`."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field

    @property
    def status_message(self) -> str:
        return f"{self.field}: {self.message}"


class AudioError(InvalidArgument):
    """The audio cannot be decoded, or is not what the request says it is."""

    def __init__(self, message: str, *, field: str = "audio") -> None:
        super().__init__(message, field=field)


class Unauthenticated(SaysoError):
    """The call shows no credential, or none that holds; the message never repeats it."""

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
    operator unlock it. Says nothing of whom, how often or how closely it failed."""

    reason = "SPEAKER_LOCKED"

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


class TimedOut(SaysoError):
    """A caller said nothing for too long."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Overloaded(SaysoError):
    """A queue is full or a limit is reached; worth another try after `retry_after_s` seconds."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverLimit(Overloaded):
    """The caller, or its tenant, has used up what it may use; the server itself has room."""


class Unavailable(SaysoError):
    """Something the server depends on, such as the store, is away for now."""

    code = grpc.StatusCode.UNAVAILABLE


class StillReadable(Unavailable):
    """What was erased is gone from the store, and a copy of it could not be removed beside it."""


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
