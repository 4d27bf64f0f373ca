"""The bytes of a sealed record: AES-256-GCM under a key of the speaker's own.

    schema 0x81 | key version, uint32 | flags | nonce, 12 bytes | ciphertext | tag, 16 bytes

Associated data are schema, key version and flags, then tenant, speaker id, kind and model id, each
after its length: a record is of no use in any other place. No record from before begins with 0x81.

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

from service.sealing.templates import Rotation, rotation, turned, turned_back

_SCHEMA = 0x81
_HEAD = struct.Struct("<BIB")  # schema, key version, flags
_TURNED = 1
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Kind(enum.StrEnum):
    PROFILE = "profile"
    HISTORY = "history"
    VOICEPRINT = "voiceprint"


@dataclass(frozen=True, slots=True)
class Place:
    """Whose record it is, and which; `model_id` is of a voiceprint."""

    tenant: str
    speaker_id: str
    kind: Kind
    model_id: str = ""

    def bound(self, head: bytes) -> bytes:
        names = (self.tenant, self.speaker_id, self.kind.value, self.model_id)
        encoded = [name.encode() for name in names]
        return head + b"".join(struct.pack("<I", len(name)) + name for name in encoded)


class DataKey:
    """One version of a tenant's key, 32 bytes, and what is derived from it."""

    def __init__(self, version: int, material: bytes) -> None:
        self.version = version
        self._material = material
        self._rotations: dict[tuple[str, int], Rotation] = {}

    def of(self, speaker_id: str) -> AESGCM:
        """The cipher of one speaker's records."""
        return AESGCM(self._derived("records", speaker_id))

    def turned(self, model_id: str, vectors: NDArray[float32]) -> NDArray[float32]:
        """`vectors (n, dim)` of a model, as they are stored with templates protected."""
        return turned(vectors, self._rotation(model_id, vectors.shape[1]))

    def turned_back(self, model_id: str, vectors: NDArray[float32]) -> NDArray[float32]:
        return turned_back(vectors, self._rotation(model_id, vectors.shape[1]))

    def _rotation(self, model_id: str, dimension: int) -> Rotation:
        found = self._rotations.get((model_id, dimension))
        if found is None:
            found = rotation(self._derived("templates", model_id), dimension)
            self._rotations[model_id, dimension] = found
        return found

    def _derived(self, purpose: str, name: str) -> bytes:
        info = f"sayso {purpose}\0{name}".encode()
        return HKDFExpand(SHA256(), _KEY_BYTES, info).derive(self._material)


def beginning(version: int, *, templates_turned: bool) -> bytes:
    """The first bytes of every record that is sealed so."""
    return _HEAD.pack(_SCHEMA, version, _TURNED if templates_turned else 0)


def sealed(
    key: DataKey, cipher: AESGCM, place: Place, plain: bytes, *, templates_turned: bool
) -> bytes:
    """`cipher` is `key.of(place.speaker_id)`."""
    head = beginning(key.version, templates_turned=templates_turned)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return head + nonce + cipher.encrypt(nonce, plain, place.bound(head))


def opened(cipher: AESGCM, place: Place, record: bytes) -> bytes:
    """Inverse of `sealed`; raises InvalidTag for a record of another place or key, or changed."""
    at = _HEAD.size + _NONCE_BYTES
    bound = place.bound(record[: _HEAD.size])
    return cipher.decrypt(record[_HEAD.size : at], record[at:], bound)


def is_sealed(record: bytes) -> bool:
    return record[:1] == bytes((_SCHEMA,)) and len(record) > _HEAD.size + _NONCE_BYTES


def version_of(record: bytes) -> int:
    version: int = _HEAD.unpack_from(record)[1]
    return version


def is_turned(record: bytes) -> bool:
    return is_sealed(record) and bool(_HEAD.unpack_from(record)[2] & _TURNED)
