"""HTTP message signatures as AudioHook has them: draft-ietf-httpbis-message-signatures-11, HMAC.

RFC 9421, which came later, spells `@request-target` otherwise.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

COVERED = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)
"""What a signature has to cover."""

_MAX_AGE_S = 10.0
_SKEW_S = 3.0
_MIN_NONCE_CHARACTERS = 22
_STRING = r'"[ !#-\[\]-~]*"'  # without the escapes that strings may have
_VALUE = rf"(?:{_STRING}|[0-9]{{1,15}})"
_INPUT = re.compile(
    r"([a-z*][a-z0-9_.*-]*)="  # label
    rf"(\(({_STRING}(?: {_STRING})*)\)((?:;[a-z]+={_VALUE})+))"  # components, parameters
)
_PARAMETER = re.compile(rf";([a-z]+)=({_VALUE})")
_NAMES = frozenset({"keyid", "nonce", "alg", "created", "expires"})


class InvalidSignature(Exception):
    """The request is not signed as it has to be; the message is for the operator's log."""


@dataclass(frozen=True, slots=True)
class _Signature:
    components: tuple[str, ...]
    parameters: Mapping[str, str]
    encoded: str
    value: bytes


class Verifier:
    """Verifies requests by secrets of their keys; each nonce is good once. `clock` is in seconds
    since the epoch."""

    def __init__(
        self, secrets: Mapping[str, bytes], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._secrets = secrets
        self._clock = clock
        self._nonces: dict[str, float] = {}  # in the order in which they end

    def verify(self, headers: Mapping[str, str], *, target: str, authority: str) -> None:
        """Raise `InvalidSignature` unless the request is signed, now, by a key that is known.
        `target` is path and query."""
        signature = _parse(headers.get("signature-input", ""), headers.get("signature", ""))
        self._check_parameters(signature, headers.get("x-api-key", ""))
        derived = {"@request-target": target, "@authority": authority}
        base = _make_base(signature, headers, derived)
        key = signature.parameters["keyid"]
        made = hmac.new(self._secrets.get(key, bytes(32)), base, hashlib.sha256).digest()
        if not hmac.compare_digest(made, signature.value) or key not in self._secrets:
            raise InvalidSignature("the key is unknown, or the signature is not by its secret")
        self._use_nonce(f"{key} {signature.parameters['nonce']}")

    def _check_parameters(self, signature: _Signature, key: str) -> None:
        parameters, now = signature.parameters, self._clock()
        if missing := [name for name in COVERED if name not in signature.components]:
            raise InvalidSignature(f"the signature does not cover {', '.join(missing)}")
        if missing := sorted({"keyid", "nonce", "created"} - parameters.keys()):
            raise InvalidSignature(f"the signature has no {', '.join(missing)}")
        if parameters["keyid"] != key:
            raise InvalidSignature("keyid is not the X-API-KEY")
        if parameters.get("alg", "hmac-sha256") != "hmac-sha256":
            raise InvalidSignature("the algorithm is not hmac-sha256")
        if len(parameters["nonce"]) < _MIN_NONCE_CHARACTERS:
            raise InvalidSignature("the nonce is too short")
        created, expires = _read_time(parameters, "created"), _read_time(parameters, "expires")
        assert created is not None
        if not now - _MAX_AGE_S - _SKEW_S <= created <= now + _SKEW_S:
            raise InvalidSignature("it was signed too long ago; check this machine's clock")
        if expires is not None and expires < now - _SKEW_S:
            raise InvalidSignature("the signature has expired")

    def _use_nonce(self, nonce: str) -> None:
        now = self._clock()
        while self._nonces and next(iter(self._nonces.values())) < now:
            del self._nonces[next(iter(self._nonces))]
        if nonce in self._nonces:
            raise InvalidSignature("the nonce was used before")
        self._nonces[nonce] = now + _MAX_AGE_S + 2 * _SKEW_S


def decode_secret(text: str) -> bytes:
    """The bytes of a client secret in base64; raises ValueError, also if it is empty."""
    secret = base64.b64decode(text, validate=True)
    if not secret:
        raise ValueError("the secret is empty")
    return secret


def _parse(signature_input: str, signature: str) -> _Signature:
    """Parse the two fields, of one signature."""
    parsed = _INPUT.fullmatch(signature_input.strip())
    if parsed is None:
        raise InvalidSignature("there is no signature-input of one signature")
    label, encoded, components, parameters = parsed.groups()
    value = re.fullmatch(rf"{re.escape(label)}=:([A-Za-z0-9+/=]+):", signature.strip())
    if value is None:
        raise InvalidSignature("there is no signature of the signature-input's label")
    names = tuple(name.strip('"') for name in re.findall(_STRING, components))
    if len(set(names)) < len(names):
        raise InvalidSignature("a component is covered twice")
    found = [(name, text.strip('"')) for name, text in _PARAMETER.findall(parameters)]
    if len(dict(found)) < len(found) or not dict(found).keys() <= _NAMES:
        raise InvalidSignature("a parameter of the signature is unknown, or there twice")
    try:
        made = base64.b64decode(value[1], validate=True)
    except binascii.Error:
        raise InvalidSignature("the signature is not base64") from None
    return _Signature(names, dict(found), encoded, made)


def _make_base(
    signature: _Signature, headers: Mapping[str, str], derived: Mapping[str, str]
) -> bytes:
    """What was signed: a line for each component, and the parameters."""
    lines = []
    for name in signature.components:
        value = derived.get(name) if name.startswith("@") else headers.get(name)
        if value is None:
            raise InvalidSignature(f"{name} is covered and not there")
        lines.append(f'"{name}": {value.strip()}')
    lines.append(f'"@signature-params": {signature.encoded}')
    return "\n".join(lines).encode()


def _read_time(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise InvalidSignature(f"{name} is no time")
    return int(text)
