"""The records of a speaker, and how they are encoded.

    Speaker ─┬─ profile     JSON     whose it is, state, metadata, consent, times
             ├─ history     binary   what the latest enrollments replaced, oldest first
             └─ voiceprint  binary   one a model id: header, net speech, vectors
                used_at              beside the voiceprint: a use does not change the record

Each begins with its schema number. Times are seconds since the epoch, UTC.
"""

import enum
import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import SaysoError

USE_RESOLUTION_S = 60.0
"""How exactly a store knows when a voice was last used: not every use is worth a write."""

PROFILE_SCHEMA = 3  # 2 has no withdrawn consent, 1 no opt-out times, confirmation or history
HISTORY_SCHEMA = 1
VOICEPRINT_SCHEMA = 2  # 1, still written if no vector was adapted, has no count of those
_HEADER = struct.Struct("<HHId")  # schema, dim, n, created_at
_ADAPTED = struct.Struct("<I")  # how many vectors were adapted
_HISTORY_HEADER = struct.Struct("<HI")  # schema, bytes of the JSON that follows
_FLOAT32 = np.dtype("<f4")
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError, RecursionError, struct.error)


class RecordError(SaysoError):
    """A stored record is torn, of another speaker, or of a newer schema than this server reads."""


class SpeakerState(enum.StrEnum):
    """`service.speakers.lifecycle` draws how one follows another."""

    PENDING = "pending"
    UNCONFIRMED = "unconfirmed"
    ENROLLED = "enrolled"
    WITHOUT_CONSENT = "without_consent"
    EXPIRED = "expired"
    OPTED_OUT = "opted_out"


@dataclass(frozen=True, slots=True)
class Consent:
    """The caller's reference to a consent, and when it was given."""

    reference: str
    at: float


@dataclass(frozen=True, slots=True, eq=False)
class Voiceprint:
    """The vectors (n, dim) of one model and the net speech (n,) of each, both float32; the last
    `adapted` of them are of calls, those before of enrollments.

    `used_at` is None before the first use. Only `Store.touch` changes it, and the etag does not
    cover it.
    """

    model_id: str
    vectors: NDArray[np.float32]
    speech_s: NDArray[np.float32]
    created_at: float
    used_at: float | None = None
    adapted: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.adapted <= len(self.speech_s):
            raise ValueError("of a voiceprint's vectors some are adapted, or all, or none")
        if self.vectors.dtype != np.float32 or self.speech_s.dtype != np.float32:
            raise ValueError("a voiceprint's vectors and net speech are float32")
        if self.vectors.ndim != 2 or self.speech_s.shape != self.vectors.shape[:1]:
            shapes = f"{self.vectors.shape} and {self.speech_s.shape}"
            raise ValueError(f"a voiceprint is (n, dim) vectors and (n,) net speech, not {shapes}")

    @property
    def total_speech_s(self) -> float:
        return float(self.speech_s.sum())

    def has_noted_use(self, at: float) -> bool:
        """Whether a use at that time needs no `Store.touch`, as it would change nothing."""
        return self.used_at is not None and self.used_at > at - USE_RESOLUTION_S

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Voiceprint):
            return NotImplemented
        return (self.model_id, self.used_at, encode_voiceprint(self)) == (
            other.model_id,
            other.used_at,
            encode_voiceprint(other),
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Version:
    """The voice that an enrollment changed, kept so that it can be undone.

    `adapted` says that the change was an adaptation rather than an enrollment.
    """

    state: SpeakerState
    voiceprints: Mapping[str, Voiceprint] = field(default_factory=dict)
    enrolled_at: float | None = None
    awaits_confirmation: bool = False
    adapted: bool = False


@dataclass(frozen=True, slots=True)
class Speaker:
    """One speaker of one tenant; `voiceprints` by model id, `history` oldest first.

    `state` is as stored; `Retention.state` gives the state as of now. `enrolled_at` is when speech
    was last added, `enrolled_by` names every credential that enrolled any, and `adapted_from` holds
    digests of the recordings of calls that added any, `request_ids` the callers' own names of the
    latest enrollments. `etag` names this version of the record;
    `put` sets it.
    """

    tenant: str
    speaker_id: str
    state: SpeakerState
    created_at: float
    updated_at: float
    voiceprints: Mapping[str, Voiceprint] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    consent_withdrawn_at: float | None = None
    enrolled_at: float | None = None
    opted_out_at: float | None = None
    awaits_confirmation: bool = False
    adapted_from: tuple[str, ...] = ()
    request_ids: tuple[str, ...] = ()
    enrolled_by: tuple[str, ...] = ()
    history: tuple[Version, ...] = ()
    etag: str = ""

    def __post_init__(self) -> None:
        for name, value in (("tenant", self.tenant), ("speaker_id", self.speaker_id)):
            if not value or "\0" in value:
                raise ValueError(f"{name} is a non-empty string without NUL")
        for voiceprints in (self.voiceprints, *(version.voiceprints for version in self.history)):
            if any(model_id != each.model_id for model_id, each in voiceprints.items()):
                raise ValueError("voiceprints are keyed by their own model id")


@dataclass(frozen=True, slots=True)
class Page:
    """Speakers in code-point order of their ids; `next_after` is None after the last page.

    A page may hold fewer speakers than its limit, or none, and still not be the last.
    """

    speakers: tuple[Speaker, ...]
    next_after: str | None


def hash_subject(tenant: str, speaker_id: str) -> bytes:
    """SHA-256 of both names: the key of an opt-out, which outlives the speaker."""
    return hashlib.sha256(f"{tenant}\0{speaker_id}".encode()).digest()


def opted_out_speaker(tenant: str, speaker_id: str, *, etag: str, at: float) -> Speaker:
    """The speaker that a deletion leaves of one who opted out."""
    return Speaker(
        *(tenant, speaker_id, SpeakerState.OPTED_OUT, at, at), opted_out_at=at, etag=etag
    )


def encode_profile(speaker: Speaker) -> bytes:
    """Everything of a speaker but its voiceprints, its history and its etag."""
    consent = speaker.consent
    document = {
        "schema": PROFILE_SCHEMA,
        "tenant": speaker.tenant,
        "speaker_id": speaker.speaker_id,
        "state": speaker.state.value,
        "metadata": dict(speaker.metadata),
        "consent": consent and {"reference": consent.reference, "at": consent.at},
        "consent_withdrawn_at": speaker.consent_withdrawn_at,
        "enrolled_at": speaker.enrolled_at,
        "opted_out_at": speaker.opted_out_at,
        "awaits_confirmation": speaker.awaits_confirmation,
        "adapted_from": list(speaker.adapted_from),
        "request_ids": list(speaker.request_ids),
        "enrolled_by": list(speaker.enrolled_by),
        "created_at": speaker.created_at,
        "updated_at": speaker.updated_at,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def encode_voiceprint(voiceprint: Voiceprint) -> bytes:
    """The vectors and their net speech; the model id is the key that it is stored under."""
    n, dim = voiceprint.vectors.shape
    schema = VOICEPRINT_SCHEMA if voiceprint.adapted else 1
    return b"".join(
        (
            _HEADER.pack(schema, dim, n, voiceprint.created_at),
            _ADAPTED.pack(voiceprint.adapted) if voiceprint.adapted else b"",
            voiceprint.speech_s.astype(_FLOAT32).tobytes(),
            voiceprint.vectors.astype(_FLOAT32).tobytes(),
        )
    )


def encode_history(history: Sequence[Version]) -> bytes:
    """A JSON list of versions, then the voiceprints that they name, in their order."""
    records = [
        [(each.model_id, encode_voiceprint(each)) for each in version.voiceprints.values()]
        for version in history
    ]
    document = [
        {
            "state": version.state.value,
            "enrolled_at": version.enrolled_at,
            "awaits_confirmation": version.awaits_confirmation,
            "adapted": version.adapted,
            "voiceprints": [(model_id, len(record)) for model_id, record in encoded],
        }
        for version, encoded in zip(history, records, strict=True)
    ]
    head = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    body = b"".join(record for encoded in records for _, record in encoded)
    return _HISTORY_HEADER.pack(HISTORY_SCHEMA, len(head)) + head + body


def decode_speaker(
    tenant: str,
    speaker_id: str,
    *,
    etag: str,
    profile: bytes,
    history: bytes = b"",
    voiceprints: Iterable[tuple[str, bytes, float | None]],
) -> Speaker:
    """Inverse of the encoders, from `(model_id, record, used_at)` triples; raises RecordError.

    A profile that names another speaker than the one asked for is refused. Records from before
    there was a history have an empty one.
    """
    try:
        document: dict[str, Any] = json.loads(profile)
        _require_schema(document["schema"], PROFILE_SCHEMA)
        if (document["tenant"], document["speaker_id"]) != (tenant, speaker_id):
            raise RecordError("a stored record belongs to another speaker than its key says")
        prints = (decode_voiceprint(*stored) for stored in voiceprints)
        return Speaker(
            tenant=tenant,
            speaker_id=speaker_id,
            state=SpeakerState(document["state"]),
            voiceprints={voiceprint.model_id: voiceprint for voiceprint in prints},
            metadata=document["metadata"],
            consent=document["consent"] and Consent(**document["consent"]),
            consent_withdrawn_at=document.get("consent_withdrawn_at"),
            enrolled_at=document.get("enrolled_at"),
            opted_out_at=document.get("opted_out_at"),
            awaits_confirmation=document.get("awaits_confirmation", False),
            adapted_from=tuple(document.get("adapted_from", ())),
            request_ids=tuple(document.get("request_ids", ())),
            enrolled_by=tuple(document.get("enrolled_by", ())),
            history=decode_history(history),
            created_at=document["created_at"],
            updated_at=document["updated_at"],
            etag=etag,
        )
    except _UNREADABLE as error:
        raise RecordError(f"a stored profile cannot be read: {error}") from error


def decode_history(record: bytes) -> tuple[Version, ...]:
    """Inverse of `encode_history`; no bytes are an empty history. Raises RecordError."""
    if not record:
        return ()
    try:
        schema, head_bytes = _HISTORY_HEADER.unpack_from(record)
        _require_schema(schema, HISTORY_SCHEMA)
        at = _HISTORY_HEADER.size + head_bytes
        versions = []
        for document in json.loads(record[_HISTORY_HEADER.size : at]):
            voiceprints = {}
            for model_id, size in document.pop("voiceprints"):
                voiceprints[model_id] = decode_voiceprint(model_id, record[at : at + size])
                at += size
            state = SpeakerState(document.pop("state"))
            versions.append(Version(state, voiceprints, **document))
        if at != len(record):
            raise RecordError(f"a stored history is torn: {len(record)} bytes instead of {at}")
    except _UNREADABLE as error:
        raise RecordError(f"a stored history cannot be read: {error}") from error
    return tuple(versions)


def decode_voiceprint(model_id: str, record: bytes, used_at: float | None = None) -> Voiceprint:
    """Inverse of `encode_voiceprint`; the arrays are read-only. Raises RecordError."""
    if len(record) < _HEADER.size:
        raise RecordError(f"a stored voiceprint is torn: {len(record)} bytes")
    schema, dim, n, created_at = _HEADER.unpack_from(record)
    _require_schema(schema, VOICEPRINT_SCHEMA)
    start = _HEADER.size + (_ADAPTED.size if schema > 1 else 0)
    if len(record) != start + _FLOAT32.itemsize * n * (1 + dim):
        raise RecordError(f"a stored voiceprint is torn: {len(record)} bytes for ({n}, {dim})")
    adapted = _ADAPTED.unpack_from(record, _HEADER.size)[0] if schema > 1 else 0
    if adapted > n:
        raise RecordError(f"a stored voiceprint is torn: {adapted} of {n} vectors are adapted")
    floats = np.frombuffer(record, _FLOAT32, offset=start).astype(np.float32, copy=False)
    vectors, speech_s = floats[n:].reshape(n, dim), floats[:n]
    return Voiceprint(model_id, vectors, speech_s, created_at, used_at, adapted)


def _require_schema(schema: int, newest: int) -> None:
    if not 1 <= schema <= newest:
        raise RecordError(
            f"a stored record has schema {schema}, and this server reads up to {newest}: upgrade it"
        )
