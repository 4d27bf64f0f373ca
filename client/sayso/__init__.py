"""The client of a Sayso server.

with Client("127.0.0.1:50051") as sayso:
    sayso.enroll("alice", "alice.wav")
    print(sayso.verify("alice", "call.wav").outcome)
"""

from sayso.aio.client import AsyncClient
from sayso.blocking.client import Client
from sayso.connection import OPTIONS
from sayso.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
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
from sayso.recordings import MAX_CHUNK_BYTES
from sayso.security import Tls
from sayso.values import (
    ENCODINGS,
    AnnouncedCall,
    Band,
    BatchItem,
    BatchResult,
    CalibratedRange,
    Claimed,
    ClaimedSpeaker,
    Costs,
    Decision,
    Duplicates,
    Embedding,
    Enrollment,
    Event,
    EventType,
    FailedVerifications,
    Group,
    Identification,
    Match,
    Migration,
    ModelInfo,
    Outcome,
    RawAudio,
    Receipt,
    Recording,
    SequentialTest,
    ServerInfo,
    Speaker,
)

__version__ = "0.1.0"
"""Also of the server's distribution: both are released together."""

__all__ = [
    "ENCODINGS",
    "MAX_CHUNK_BYTES",
    "OPTIONS",
    "Aborted",
    "AlreadyExists",
    "AnnouncedCall",
    "AsyncClient",
    "Band",
    "BatchItem",
    "BatchResult",
    "CalibratedRange",
    "Claimed",
    "ClaimedSpeaker",
    "Client",
    "Costs",
    "Decision",
    "Duplicates",
    "Embedding",
    "Enrollment",
    "Event",
    "EventType",
    "FailedPrecondition",
    "FailedVerifications",
    "FieldViolation",
    "Group",
    "Identification",
    "InvalidArgument",
    "Match",
    "Migration",
    "ModelInfo",
    "NotFound",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "RawAudio",
    "Receipt",
    "Recording",
    "SaysoError",
    "SequentialTest",
    "ServerInfo",
    "SettingsError",
    "Speaker",
    "SpeakerLocked",
    "TimedOut",
    "Tls",
    "Unauthenticated",
    "Unavailable",
]
