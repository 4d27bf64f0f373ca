"""API keys `sayso_<id>_<secret>`, and the names on client certificates, against the key file."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.access import key_file
from service.access.caller import Caller
from service.access.certificates import CertificateName
from service.access.grants import ApiKey, ClientCertificate, Grants
from service.access.roles import Role
from service.errors import FailedPrecondition, Unauthenticated
from service.reload import Reloaded

PREFIX = "sayso_"
_SECRET_BYTES = 32

_NOBODY = ApiKey(
    id="nobody",
    tenant="nobody",
    roles=frozenset(Role),
    created=datetime.fromtimestamp(0, UTC),
    sha256="0" * 64,
)
"""Whom an unknown id is compared with, for as long as a known one takes."""


def new_key(
    tenant: str, roles: Iterable[Role], *, now: datetime, expires: datetime | None
) -> tuple[str, ApiKey]:
    """A key, which exists only here and with its holder, and the entry that knows it.

    Raises pydantic's `ValidationError` for a tenant that is none.
    """
    key_id, secret = new_id(), secrets.token_hex(_SECRET_BYTES)
    entry = ApiKey(
        id=key_id,
        tenant=tenant,
        roles=frozenset(roles),
        created=now,
        expires=expires,
        sha256=_sha256(secret),
    )
    return f"{PREFIX}{key_id}_{secret}", entry


def rotated(
    grants: Grants, key_id: str, *, now: datetime, grace: timedelta, expires: datetime | None
) -> tuple[str, ApiKey, ApiKey]:
    """A new key, its entry, and that of `key_id` as it then is: for the same tenant and roles. The
    old one ends after `grace`, the new one, without `expires`, after as long as the old one had.

    Raises `NotFound`, and `FailedPrecondition` for what is no valid key.
    """
    old = grants.entry(key_id)
    if not isinstance(old, ApiKey) or old.state(now) != "valid":
        raise FailedPrecondition(f"{key_id} is no valid API key; use `sayso keys create`")
    if expires is None and old.expires is not None:
        expires = now + (old.expires - old.created)
    key, new = new_key(old.tenant, old.roles, now=now, expires=expires)
    end = now + grace if old.expires is None else min(old.expires, now + grace)
    return key, new, old.model_copy(update={"expires": end})


def new_id() -> str:
    return secrets.token_hex(8)


class Keys:
    """Who holds a key or a certificate; follows the file, `now` gives the time in UTC.

    Raises `SettingsError` when first asked and the file cannot be read.
    """

    def __init__(
        self, path: Path, *, now: Callable[[], datetime], look_every_s: float = 1.0
    ) -> None:
        self._file = Reloaded(
            (path,), lambda: _Index(key_file.read(path)), look_every_s=look_every_s
        )
        self._now = now

    def load(self) -> None:
        """Reads the file; raises `SettingsError` that tells what is wrong with it."""
        _ = self._file.value

    def holder(self, key: str) -> Caller:
        """Raises `Unauthenticated`; an unknown id takes as long as a wrong secret."""
        key_id, _, secret = key.removeprefix(PREFIX).partition("_")
        entry = self._file.value.keys.get(key_id, _NOBODY)
        same = hmac.compare_digest(_sha256(secret), entry.sha256)
        if entry is _NOBODY or not same:
            raise Unauthenticated("there is no such API key")
        state = entry.state(self._now())
        if state != "valid":
            raise Unauthenticated(f"the API key {entry.id} is {state}; use a newer one")
        return entry.caller

    def bearer(self, names: Iterable[CertificateName]) -> Caller:
        """Whose certificate with these names it is; raises `Unauthenticated`."""
        now, known = self._now(), self._file.value.certificates
        callers = {
            entry.caller
            for name in names
            for entry in known.get(name, ())
            if entry.state(now) == "valid"
        }
        match list(callers):
            case [caller]:
                return caller
            case []:
                raise Unauthenticated("nobody is known by this client certificate")
            case _:
                raise Unauthenticated("this client certificate names more than one caller")


class _Index:
    """The entries by what a call shows of them."""

    def __init__(self, grants: Grants) -> None:
        self.keys = {entry.id: entry for entry in grants.keys}
        self.certificates: dict[CertificateName, list[ClientCertificate]] = {}
        for entry in grants.certificates:
            for name in entry.names:
                self.certificates.setdefault(name, []).append(entry)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
