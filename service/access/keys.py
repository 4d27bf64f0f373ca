"""Check API keys `sayso_<id>_<secret>` and client certificates against the key file."""

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
from service.access.last_use import LastUses
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
"""Stands in for an unknown id, so that checking one takes as long as checking a known one."""


def make_key(
    tenant: str,
    roles: Iterable[Role],
    *,
    now: datetime,
    expires: datetime | None,
    label: str = "",
) -> tuple[str, ApiKey]:
    """A new key, which is stored nowhere, and its entry, which holds only the hash.

    Raises pydantic's `ValidationError` for an invalid tenant.
    """
    key_id, secret = make_id(), secrets.token_hex(_SECRET_BYTES)
    entry = ApiKey(
        id=key_id,
        tenant=tenant,
        roles=frozenset(roles),
        label=label,
        created=now,
        expires=expires,
        sha256=_sha256(secret),
    )
    return f"{PREFIX}{key_id}_{secret}", entry


def rotate_key(
    grants: Grants, key_id: str, *, now: datetime, grace: timedelta, expires: datetime | None
) -> tuple[str, ApiKey, ApiKey]:
    """A new key for the tenant, roles and label of `key_id`: the key, its entry, and the old entry,
    which now expires after `grace`.

    Without `expires` the new key lives as long as the old one was to. Raises `NotFound`, and
    `FailedPrecondition` if `key_id` is not a valid API key.
    """
    old = grants.find(key_id)
    if not isinstance(old, ApiKey) or old.state(now) != "valid":
        raise FailedPrecondition(f"{key_id} is no valid API key; use `sayso keys create`")
    if expires is None and old.expires is not None:
        expires = now + (old.expires - old.created)
    key, new = make_key(old.tenant, old.roles, label=old.label, now=now, expires=expires)
    end = now + grace if old.expires is None else min(old.expires, now + grace)
    return key, new, old.model_copy(update={"expires": end})


def make_id() -> str:
    return secrets.token_hex(8)


class Keys:
    """The key file, reread when it changes; `now` gives the time in UTC.

    The first call raises `SettingsError` if the file cannot be read.
    """

    def __init__(
        self, path: Path, *, now: Callable[[], datetime], look_every_s: float = 1.0
    ) -> None:
        self._file = Reloaded(
            (path,), lambda: _Index(key_file.read(path)), look_every_s=look_every_s
        )
        self._now = now
        self.last_uses = LastUses(path)

    def load(self) -> None:
        """Read the file; raises `SettingsError` that says what is wrong with it."""
        _ = self._file.value

    def authenticate_key(self, key: str) -> Caller:
        """The holder of `key`; raises `Unauthenticated`.

        An unknown id takes as long as a wrong secret.
        """
        key_id, _, secret = key.removeprefix(PREFIX).partition("_")
        entry = self._file.value.keys.get(key_id, _NOBODY)
        matches = hmac.compare_digest(_sha256(secret), entry.sha256)
        if entry is _NOBODY or not matches:
            raise Unauthenticated("there is no such API key")
        now = self._now()
        state = entry.state(now)
        if state != "valid":
            raise Unauthenticated(f"the API key {entry.id} is {state}; use a newer one")
        self.last_uses.note(entry.id, now)
        return entry.caller

    def authenticate_certificate(self, names: Iterable[CertificateName]) -> Caller:
        """The caller whose certificate has `names`; raises `Unauthenticated`."""
        now, certificates = self._now(), self._file.value.certificates
        entries = [
            entry
            for name in names
            for entry in certificates.get(name, ())
            if entry.state(now) == "valid"
        ]
        match list({entry.caller for entry in entries}):
            case [caller]:
                for entry in entries:
                    self.last_uses.note(entry.id, now)
                return caller
            case []:
                raise Unauthenticated("nobody is known by this client certificate")
            case _:
                raise Unauthenticated("this client certificate names more than one caller")


class _Index:
    """The grants by key id and by certificate name."""

    def __init__(self, grants: Grants) -> None:
        self.keys = {entry.id: entry for entry in grants.keys}
        self.certificates: dict[CertificateName, list[ClientCertificate]] = {}
        for entry in grants.certificates:
            for name in entry.names:
                self.certificates.setdefault(name, []).append(entry)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
