"""Signatures of Standard Webhooks 1.0 (github.com/standard-webhooks/standard-webhooks)."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SYMMETRIC = "whsec_"
PRIVATE = "whsk_"
PUBLIC = "whpk_"

_SEED_BYTES = 32

Signer = Callable[[bytes], str]
"""Signs content; `v1,` or `v1a,` and the signature in base64."""


def parse_secret(secret: str) -> Signer:
    """The signer of `whsec_...` (24 to 64 bytes, HMAC-SHA256) or `whsk_...` (an Ed25519 key: 32
    bytes, or 64 with the public key behind it). Raises ValueError, which does not quote it."""
    if secret.startswith(SYMMETRIC):
        key = _decode(secret.removeprefix(SYMMETRIC))
        if not 24 <= len(key) <= 64:
            raise ValueError(f"a secret `{SYMMETRIC}` must be 24 to 64 bytes in base64")
        return lambda content: _sign_symmetric(key, content)
    if secret.startswith(PRIVATE):
        key = _decode(secret.removeprefix(PRIVATE))
        if len(key) not in {_SEED_BYTES, 2 * _SEED_BYTES}:
            raise ValueError(f"a key `{PRIVATE}` must be 32 or 64 bytes in base64")
        private = Ed25519PrivateKey.from_private_bytes(key[:_SEED_BYTES])
        if key[_SEED_BYTES:] not in {b"", _get_public(private)}:
            raise ValueError(f"the second half of a key `{PRIVATE}` is not its public key")
        return lambda content: "v1a," + _encode(private.sign(content))
    raise ValueError(f"a secret begins with `{SYMMETRIC}`, or with `{PRIVATE}` for Ed25519")


def make_headers(
    signers: Sequence[Signer], webhook_id: str, body: bytes, *, at: float
) -> dict[str, str]:
    """The headers of one attempt, `at` seconds since the epoch, with a signature of each signer."""
    timestamp = str(int(at))
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(sign(content) for sign in signers),
    }


def make_secret() -> str:
    """Make a secret for HMAC, of 32 bytes."""
    return SYMMETRIC + _encode(secrets.token_bytes(32))


def make_key_pair() -> tuple[str, str]:
    """Make an Ed25519 key: `whsk_...` for the gateway, `whpk_...` for whoever receives."""
    private = Ed25519PrivateKey.generate()
    public = _get_public(private)
    return PRIVATE + _encode(private.private_bytes_raw() + public), PUBLIC + _encode(public)


def _sign_symmetric(key: bytes, content: bytes) -> str:
    return "v1," + _encode(hmac.digest(key, content, hashlib.sha256))


def _get_public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decode(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("a secret is not base64 behind its prefix") from error
