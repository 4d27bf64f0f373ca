"""The bytes of a sealed record: AES-256-GCM under a key of the speaker's own.

    schema 0x81 | key version, uint32 | flags | nonce, 12 bytes | ciphertext | tag, 16 bytes

The associated data are schema, key version and flags, then tenant, speaker id, kind and model id,
each after its length, so that a record copied to another place does not open. No unsealed record
begins with 0x81.

NIST SP 800-38D 8.3 allows 2**32 messages for a key with random nonces of 96 bits. A key seals the
records of one speaker under one version of the tenant's key, three or so in a write: at one write
a second, that is 45 years.
"""

import enum
import secrets
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from numpy import float32
from numpy.typing import NDArray

from service.sealing.templates import Rotation, draw_rotation, rotate, rotate_back

_SCHEMA = 0x81
_HEAD = struct.Struct("<BIB")  # schema, key version, flags
_ROTATED = 1
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Kind(enum.StrEnum):
    PROFILE = "profile"
    HISTORY = "history"
    VOICEPRINT = "voiceprint"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record belongs; only a voiceprint has a `model_id`. An event has the day on which it
    happened in place of a `speaker_id`, since it may concern several speakers or none."""

    tenant: str
    speaker_id: str
    kind: Kind
    model_id: str = ""

    def associated_data(self, head: bytes) -> bytes:
        """Return what ties a record that starts with `head` to this place."""
        names = (self.tenant, self.speaker_id, self.kind.value, self.model_id)
        encoded = [name.encode() for name in names]
        return head + b"".join(struct.pack("<I", len(name)) + name for name in encoded)


class DataKey:
    """One version of a tenant's key, 32 bytes; derives ciphers and rotations from it."""

    def __init__(self, version: int, material: bytes) -> None:
        self.version = version
        self._material = material
        self._rotations: dict[tuple[str, int], Rotation] = {}

    def cipher_for(self, speaker_id: str) -> AESGCM:
        """Derive the cipher of one speaker's records."""
        return AESGCM(self._derive("records", speaker_id))

    def cipher_for_events(self, day: str) -> AESGCM:
        """Derive the cipher of one day's events."""
        return AESGCM(self._derive("events", day))

    def rotate(self, model_id: str, vectors: NDArray[float32]) -> NDArray[float32]:
        """Rotate `vectors (n, dim)` of a model by the tenant's secret rotation for it."""
        return rotate(vectors, self._rotation_for(model_id, vectors.shape[1]))

    def rotate_back(self, model_id: str, vectors: NDArray[float32]) -> NDArray[float32]:
        """Undo `rotate`."""
        return rotate_back(vectors, self._rotation_for(model_id, vectors.shape[1]))

    def _rotation_for(self, model_id: str, dimension: int) -> Rotation:
        rotation = self._rotations.get((model_id, dimension))
        if rotation is None:
            rotation = draw_rotation(self._derive("templates", model_id), dimension)
            self._rotations[model_id, dimension] = rotation
        return rotation

    def _derive(self, purpose: str, name: str) -> bytes:
        info = f"sayso {purpose}\0{name}".encode()
        return HKDFExpand(SHA256(), _KEY_BYTES, info).derive(self._material)


def make_record_prefix(version: int, *, templates_rotated: bool) -> bytes:
    """Return the first bytes of every record sealed by key `version`."""
    return _HEAD.pack(_SCHEMA, version, _ROTATED if templates_rotated else 0)


def seal_record(
    key: DataKey, cipher: AESGCM, place: Place, plain: bytes, *, templates_rotated: bool
) -> bytes:
    """Encrypt the record `plain` for `place` by the `cipher` that `key` derives for it."""
    head = make_record_prefix(key.version, templates_rotated=templates_rotated)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return head + nonce + cipher.encrypt(nonce, plain, place.associated_data(head))


def open_record(cipher: AESGCM, place: Place, record: bytes) -> bytes:
    """Undo `seal_record`; raises InvalidTag if the record was changed, or is of another place or
    key."""
    at = _HEAD.size + _NONCE_BYTES
    associated_data = place.associated_data(record[: _HEAD.size])
    return cipher.decrypt(record[_HEAD.size : at], record[at:], associated_data)


def is_sealed(record: bytes) -> bool:
    return record[:1] == bytes((_SCHEMA,)) and len(record) > _HEAD.size + _NONCE_BYTES


def read_key_version(record: bytes) -> int:
    version: int = _HEAD.unpack_from(record)[1]
    return version


def is_rotated(record: bytes) -> bool:
    return is_sealed(record) and bool(_HEAD.unpack_from(record)[2] & _ROTATED)
