"""The client that an integrator imports; needs only grpcio and the `sayso.v1` messages.

with Client("127.0.0.1:50051") as sayso:
    sayso.enroll("alice", Path("alice.wav"))
    print(sayso.verify("alice", Path("call.wav")).outcome)
"""

from service.client.connection import OPTIONS
from service.client.groups import Groups
from service.client.messages import MAX_CHUNK_BYTES
from service.client.security import Tls
from service.client.speakers import Speakers
from service.client.values import (
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
from service.client.voices import Voices

__all__ = [
    "ENCODINGS",
    "MAX_CHUNK_BYTES",
    "OPTIONS",
    "Band",
    "BatchItem",
    "BatchResult",
    "Client",
    "Decision",
    "Duplicates",
    "Embedding",
    "Enrollment",
    "FailedVerifications",
    "Group",
    "Identification",
    "Match",
    "Migration",
    "Outcome",
    "RawAudio",
    "Receipt",
    "SequentialTest",
    "Speaker",
    "Tls",
]


class Client(Voices, Speakers, Groups):
    """A connection to a Sayso server.

    `audio` is the bytes of a WAV, FLAC or Ogg file or the path of one; for raw samples say so with
    `raw`; `channel` picks the caller's side of a two-channel recording. Failures are raised as the
    classes of `service.errors`; too little speech is a decision, not a failure.
    """
