"""Grants: the tenant and roles of each API key and client certificate."""

from collections import Counter
from datetime import datetime
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    field_serializer,
    model_validator,
)

from service.access.caller import Caller, is_tenant
from service.access.certificates import CertificateName, NameKind, guess_kinds
from service.access.roles import Role
from service.errors import NotFound

MAX_LABEL = 64
"""Characters of a label."""


def _check_tenant(name: str) -> str:
    if not is_tenant(name):
        raise ValueError("a tenant is 1 to 64 of letters, digits, '.', '_' and '-'")
    return name


class Grant(BaseModel):
    """The tenant and roles of whoever presents the credential described here; times are UTC.

    `label` tells people who or what it is for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=64)]
    tenant: Annotated[str, AfterValidator(_check_tenant)]
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    label: Annotated[str, Field(max_length=MAX_LABEL)] = ""
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def state(self, now: datetime) -> str:
        """`valid`, `revoked` or `expired`."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if self.expires is None or now < self.expires else "expired"

    @property
    def caller(self) -> Caller:
        return Caller(self.tenant, self.roles, f"key:{self.id}")

    @property
    def role_names(self) -> list[str]:
        return [role.value for role in Role if role in self.roles]

    @field_serializer("roles")
    def _serialize_roles(self, roles: frozenset[Role]) -> list[str]:
        return self.role_names


class ApiKey(Grant):
    """`sha256` is the hash of the secret's hex digits: 256 random bits need no slow hash."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ClientCertificate(Grant):
    """`name` is a subject alternative name, or the common name of a certificate without any.

    Without `kind`, the form of the name tells its kind.
    """

    name: Annotated[str, Field(min_length=1)]
    kind: NameKind | None = None

    @property
    def names(self) -> tuple[CertificateName, ...]:
        """The names by which a certificate matches; one of them suffices."""
        kinds = guess_kinds(self.name) if self.kind is None else (self.kind,)
        return tuple(CertificateName(kind, self.name) for kind in kinds)

    @property
    def caller(self) -> Caller:
        return Caller(self.tenant, self.roles, f"certificate:{self.name}")


class Grants(BaseModel):
    """All grants; ids are unique."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = ()
    certificates: tuple[ClientCertificate, ...] = ()

    @property
    def entries(self) -> tuple[ApiKey | ClientCertificate, ...]:
        return (*self.keys, *self.certificates)

    def find(self, entry_id: str) -> ApiKey | ClientCertificate:
        """Raise `NotFound`."""
        for entry in self.entries:
            if entry.id == entry_id:
                return entry
        raise NotFound(f"no key and no certificate has the id {entry_id}; see `sayso keys list`")

    def replace(self, *entries: ApiKey | ClientCertificate) -> Self:
        """A copy with `entries` added, or replacing those with the same id."""
        by_id = {entry.id: entry for entry in (*self.entries, *entries)}.values()
        return type(self)(
            keys=tuple(entry for entry in by_id if isinstance(entry, ApiKey)),
            certificates=tuple(entry for entry in by_id if isinstance(entry, ClientCertificate)),
        )

    @model_validator(mode="after")
    def _require_unique_ids(self) -> Self:
        for entry_id, count in Counter(entry.id for entry in self.entries).items():
            if count > 1:
                raise ValueError(f"{count} entries have the id {entry_id}")
        return self
