"""Authenticate each call by its credential, and check that its role permits the method."""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc

from service.access.caller import ANYONE, Caller, use_caller
from service.access.certificates import CertificateName, read_certificate_names
from service.access.keys import PREFIX, Keys
from service.access.roles import ROLES
from service.access.tokens import Tokens
from service.errors import PermissionDenied, SettingsError, Unauthenticated
from service.settings import TokenRules

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = Iterable[tuple[str, str | bytes]]

_SHOW_ONE = "show a credential: `authorization: Bearer` and an API key or a token, or `x-api-key`"


class Authenticator:
    """Accepts API keys and client certificates if there are `keys`, and JWTs if `tokens`."""

    def __init__(self, *, keys: Keys | None, tokens: Tokens | None) -> None:
        self._keys = keys
        self._tokens = tokens

    def authenticate(self, metadata: Metadata, shown_names: Iterable[CertificateName]) -> Caller:
        """The caller of a call; a credential in `metadata` comes before the client certificate.

        Raises `Unauthenticated`.
        """
        credential = _read_credential(metadata)
        if credential is not None:
            return self._authenticate_credential(credential)
        names = list(shown_names)
        if self._keys is None or not names:
            raise Unauthenticated(_SHOW_ONE)
        return self._keys.authenticate_certificate(names)

    def keep_last_uses(self) -> AbstractAsyncContextManager[None]:
        """Keep the file of last uses of keys and certificates written while the context lasts."""
        return nullcontext() if self._keys is None else self._keys.last_uses.keep_written()

    def _authenticate_credential(self, credential: str) -> Caller:
        if credential.startswith(PREFIX):
            if self._keys is None:
                raise Unauthenticated("this server takes tokens, and no API keys")
            return self._keys.authenticate_key(credential)
        if self._tokens is None:
            raise Unauthenticated("there is no such API key, and this server takes no tokens")
        return self._tokens.authenticate(credential)


def open_authenticator(
    *,
    keys: Path | None,
    jwks: Path | None,
    token_rules: TokenRules,
    now: Callable[[], datetime],
) -> Authenticator | None:
    """Read the key file and the JWKS; None if neither is set and no credential is needed.

    Raises `SettingsError` for files that cannot be used and for incomplete token settings.
    """
    if jwks is None and (token_rules.issuer or token_rules.audience):
        raise SettingsError("SAYSO_JWKS: is not set; without it no token can be checked")
    key_index = None if keys is None else Keys(keys, now=now)
    tokens = None if jwks is None else Tokens(jwks, token_rules)
    for source in (key_index, tokens):
        if source is not None:
            source.load()
    if key_index is None and tokens is None:
        return None
    return Authenticator(keys=key_index, tokens=tokens)


def identify_caller(
    authenticator: Authenticator | None,
) -> Callable[[str, Context], AbstractContextManager[None]]:
    """A guard that authenticates the caller and checks its role for the method.

    Without an authenticator every caller is `ANYONE`. Belongs among the guards that admit.
    """

    def guard(name: str, context: Context) -> AbstractContextManager[None]:
        caller = ANYONE
        if authenticator is not None:
            certificates = context.auth_context().get("x509_pem_cert", ())
            caller = authenticator.authenticate(
                context.invocation_metadata() or (),
                [name for pem in certificates for name in read_certificate_names(pem)],
            )
        _require_role(caller, name)
        return use_caller(caller)

    return guard


def _read_credential(metadata: Metadata) -> str | None:
    """The credential in a call's metadata, or None; raises `Unauthenticated`."""
    credentials = [(key, value) for key, value in metadata if key in {"authorization", "x-api-key"}]
    match credentials:
        case []:
            return None
        case [("authorization", str(value))]:
            scheme, _, credential = value.partition(" ")
            if scheme.lower() == "bearer" and credential.strip():
                return credential.strip()
            raise Unauthenticated(_SHOW_ONE)
        case [("x-api-key", str(key))] if key.startswith(PREFIX):
            return key
        case [_]:
            raise Unauthenticated("there is no such API key")
        case _:
            raise Unauthenticated("the call shows several credentials; send one")


def _require_role(caller: Caller, name: str) -> None:
    role = ROLES.get(name)
    if role not in caller.roles:
        needed = "a role that nobody has" if role is None else f"the role {role.value}"
        raise PermissionDenied(f"this needs {needed}, which {caller.credential} does not have")
