"""What a call shows becomes a caller, and what the caller may not do is refused."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc

from service.access.caller import ANYONE, Caller, calling
from service.access.certificates import CertificateName, certificate_names
from service.access.keys import PREFIX, Keys
from service.access.roles import ROLES
from service.access.tokens import Expected, Tokens
from service.errors import PermissionDenied, SettingsError, Unauthenticated

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = Iterable[tuple[str, str | bytes]]

_SHOW_ONE = "show a credential: `authorization: Bearer` and an API key or a token, or `x-api-key`"


class Authenticator:
    """Takes API keys and client certificates of `keys`, and `tokens`, where there are such."""

    def __init__(self, *, keys: Keys | None, tokens: Tokens | None) -> None:
        self._keys = keys
        self._tokens = tokens

    def caller(self, metadata: Metadata, shown_names: Iterable[CertificateName]) -> Caller:
        """A credential in the metadata comes before the connection's certificate.

        Raises `Unauthenticated`.
        """
        shown = _shown(metadata)
        if shown is not None:
            return self._holder(shown)
        names = list(shown_names)
        if self._keys is None or not names:
            raise Unauthenticated(_SHOW_ONE)
        return self._keys.bearer(names)

    def _holder(self, credential: str) -> Caller:
        if credential.startswith(PREFIX):
            if self._keys is None:
                raise Unauthenticated("this server takes tokens, and no API keys")
            return self._keys.holder(credential)
        if self._tokens is None:
            raise Unauthenticated("there is no such API key, and this server takes no tokens")
        return self._tokens.bearer(credential)


def open_authenticator(
    *,
    keys: Path | None,
    jwks: Path | None,
    expected: Expected,
    now: Callable[[], datetime],
) -> Authenticator | None:
    """What the settings ask for, with its files read; None where they ask for no credential.

    Raises `SettingsError` for files that are wrong, and for settings of tokens that are half there.
    """
    if jwks is None and (expected.issuer or expected.audience):
        raise SettingsError("SAYSO_JWKS: is not set; without it no token can be checked")
    known = None if keys is None else Keys(keys, now=now)
    tokens = None if jwks is None else Tokens(jwks, expected)
    for opened in (known, tokens):
        if opened is not None:
            opened.load()
    if known is None and tokens is None:
        return None
    return Authenticator(keys=known, tokens=tokens)


def identified(
    authenticator: Authenticator | None,
) -> Callable[[str, Context], AbstractContextManager[None]]:
    """The guard that knows the caller, and lets through what it has the role for.

    Without an authenticator every caller is `ANYONE`. Belongs to those that admit.
    """

    def guard(name: str, context: Context) -> AbstractContextManager[None]:
        caller = ANYONE
        if authenticator is not None:
            shown = context.auth_context().get("x509_pem_cert", ())
            caller = authenticator.caller(
                context.invocation_metadata() or (),
                [name for pem in shown for name in certificate_names(pem)],
            )
        _permit(caller, name)
        return calling(caller)

    return guard


def _shown(metadata: Metadata) -> str | None:
    """The credential in a call's metadata, if there is one; raises `Unauthenticated`."""
    found = [(key, value) for key, value in metadata if key in {"authorization", "x-api-key"}]
    match found:
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


def _permit(caller: Caller, name: str) -> None:
    role = ROLES.get(name)
    if role not in caller.roles:
        needed = "a role that nobody has" if role is None else f"the role {role.value}"
        raise PermissionDenied(f"this needs {needed}, which {caller.credential} does not have")
