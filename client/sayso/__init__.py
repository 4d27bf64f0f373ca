"""The client of a Sayso server.

with Client("127.0.0.1:50051") as sayso:
    sayso.enroll("alice", Path("alice.wav"))
    print(sayso.verify("alice", Path("call.wav")).outcome)
"""

from sayso.connection import OPTIONS
from sayso.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    SaysoError,
    SettingsError,
    SpeakerLocked,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from sayso.groups import Groups
from sayso.messages import MAX_CHUNK_BYTES
from sayso.security import Tls
from sayso.speakers import Speakers
from sayso.values import (
    ENCODINGS,
    Band,
    BatchItem,
    BatchResult,
    Decision,
    Duplicates,
    Embedding,
    Enrollment,
    FailedVerifications,
    Group,
    Identification,
    Match,
    Migration,
    Outcome,
    RawAudio,
    Receipt,
    SequentialTest,
    Speaker,
)
from sayso.voices import Voices

__version__ = "0.1.0"
"""Also of the server's distribution: both are released together."""

__all__ = [
    "ENCODINGS",
    "MAX_CHUNK_BYTES",
    "OPTIONS",
    "Aborted",
    "AlreadyExists",
    "Band",
    "BatchItem",
    "BatchResult",
    "Client",
    "Decision",
    "Duplicates",
    "Embedding",
    "Enrollment",
    "FailedPrecondition",
    "FailedVerifications",
    "Group",
    "Identification",
    "InvalidArgument",
    "Match",
    "Migration",
    "NotFound",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "RawAudio",
    "Receipt",
    "SaysoError",
    "SequentialTest",
    "SettingsError",
    "Speaker",
    "SpeakerLocked",
    "TimedOut",
    "Tls",
    "Unauthenticated",
    "Unavailable",
]


class Client(Voices, Speakers, Groups):
    """A connection to a Sayso server.

    `audio` is the bytes of a WAV, FLAC or Ogg file or the path of one; for raw samples say so with
    `raw`; `channel` picks the caller's side of a two-channel recording. Failures are raised as the
    classes of `sayso.errors`; too little speech is a decision, not a failure.
    """
