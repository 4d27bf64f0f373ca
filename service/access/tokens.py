"""Check JSON Web Tokens (RFC 7519) of one issuer against its published keys (JWKS, RFC 7517).

As RFC 8725 recommends: asymmetric algorithms only, for this audience, and with an expiry.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt

from service.access.caller import Caller, is_tenant
from service.access.roles import Role
from service.errors import SettingsError, Unauthenticated
from service.reload import Reloaded
from service.secret_file import read_public_bytes
from service.settings import TokenRules

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
_MAX_HEADER = 1024  # characters of base64: too few to exhaust the stack of a parser of JSON
_REQUIRED = ["exp", "iss", "aud", "sub"]

_FAULTS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "has expired",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidAudienceError: "is for another audience",
    jwt.InvalidIssuerError: "is from another issuer",
    jwt.InvalidAlgorithmError: "is signed by an algorithm that is not taken",
    jwt.InvalidSignatureError: "has a signature that does not hold",
    jwt.MissingRequiredClaimError: f"lacks one of the claims {', '.join(_REQUIRED)}",
}


class Tokens:
    """The JWKS file, reread when it changes, and the rules for tokens signed by its keys."""

    def __init__(self, jwks: Path, rules: TokenRules, *, look_every_s: float = 1.0) -> None:
        self._jwks = Reloaded((jwks,), lambda: _read(jwks), look_every_s=look_every_s)
        self._rules = rules

    def load(self) -> None:
        """Read the file; raises `SettingsError` that says what is wrong or missing."""
        if not (self._rules.issuer and self._rules.audience):
            raise SettingsError("SAYSO_JWKS: needs SAYSO_JWT_ISSUER and SAYSO_JWT_AUDIENCE as well")
        _ = self._jwks.value

    def authenticate(self, token: str) -> Caller:
        """The caller that `token` names; raises `Unauthenticated`, which never quotes the token."""
        try:
            claims = self._decode(token)
        except jwt.PyJWTError as error:
            fault = _FAULTS.get(type(error), "cannot be read, or is none")
            raise Unauthenticated(f"the token {fault}") from error
        tenant = claims.get(self._rules.tenant_claim)
        if not isinstance(tenant, str) or not is_tenant(tenant):
            raise Unauthenticated(f"the token's claim {self._rules.tenant_claim} is no tenant")
        roles = _read_roles(claims.get(self._rules.roles_claim))
        return Caller(tenant, roles, f"token:{claims['sub']}")

    def _decode(self, token: str) -> dict[str, Any]:
        if len(token.partition(".")[0]) > _MAX_HEADER:
            raise jwt.DecodeError("the header is too long")
        return jwt.decode(
            token,
            self._find_key(jwt.get_unverified_header(token).get("kid")),
            algorithms=ALGORITHMS,
            audience=self._rules.audience,
            issuer=self._rules.issuer,
            leeway=self._rules.leeway_s,
            options={"require": _REQUIRED, "enforce_minimum_key_length": True},
        )

    def _find_key(self, key_id: object) -> jwt.PyJWK:
        """The key that the token names; without a name, the only key of the file."""
        keys = self._jwks.value
        if key_id is None and len(keys) == 1:
            return keys[0]
        for key in keys:
            if key_id is not None and key.key_id == key_id:
                return key
        raise Unauthenticated("the token names no key of the JWKS file")


def _read(path: Path) -> list[jwt.PyJWK]:
    """The keys of a JWKS that may verify a signature."""
    try:
        published = jwt.PyJWKSet.from_dict(json.loads(read_public_bytes(path))).keys
    except SettingsError:
        raise
    except OSError as error:
        raise SettingsError(f"SAYSO_JWKS: cannot read {path}: {error.strerror}") from error
    except Exception as error:  # PyJWT raises whatever a malformed key makes Python raise
        raise SettingsError(f"SAYSO_JWKS: {path} is no JSON Web Key Set") from error
    keys = [
        key
        for key in published
        if key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig")
    ]
    if not keys:
        raise SettingsError(
            f"SAYSO_JWKS: {path} holds no key for signatures by {', '.join(ALGORITHMS)}"
        )
    return keys


def _read_roles(claim: object) -> frozenset[Role]:
    """The roles in a list or in a space-separated string; unknown names are ignored."""
    names = claim.split() if isinstance(claim, str) else claim
    if not isinstance(names, list):
        return frozenset()
    roles = set()
    for name in names:
        with contextlib.suppress(ValueError):
            roles.add(Role(name))
    return frozenset(roles)
