"""What an operator has given to whom: entries for API keys and for client certificates."""

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
from service.access.certificates import CertificateName, NameKind, likely_kinds
from service.access.roles import Role
from service.errors import NotFound


def _tenant(name: str) -> str:
    if not is_tenant(name):
        raise ValueError("a tenant is 1 to 64 of letters, digits, '.', '_' and '-'")
    return name


class Grant(BaseModel):
    """A tenant and roles, for whoever shows what the entry describes; times are UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=64)]
    tenant: Annotated[str, AfterValidator(_tenant)]
    roles: Annotated[frozenset[Role], Field(min_length=1)]
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
    def _in_order(self, roles: frozenset[Role]) -> list[str]:
        return self.role_names


class ApiKey(Grant):
    """`sha256` is of the secret in hexadecimal: 256 random bits, which need no slow hash."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ClientCertificate(Grant):
    """`name` is a subject alternative name, or the common name of a certificate without any; what
    kind of name, its looks say unless `kind` does."""

    name: Annotated[str, Field(min_length=1)]
    kind: NameKind | None = None

    @property
    def names(self) -> tuple[CertificateName, ...]:
        """Any of which the certificate may show."""
        kinds = likely_kinds(self.name) if self.kind is None else (self.kind,)
        return tuple(CertificateName(kind, self.name) for kind in kinds)

    @property
    def caller(self) -> Caller:
        return Caller(self.tenant, self.roles, f"certificate:{self.name}")


class Grants(BaseModel):
    """All entries; an id is of one of them only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = ()
    certificates: tuple[ClientCertificate, ...] = ()

    @property
    def every(self) -> tuple[ApiKey | ClientCertificate, ...]:
        return (*self.keys, *self.certificates)

    def entry(self, entry_id: str) -> ApiKey | ClientCertificate:
        """Raises `NotFound`."""
        for entry in self.every:
            if entry.id == entry_id:
                return entry
        raise NotFound(f"no key and no certificate has the id {entry_id}; see `sayso keys list`")

    def changed(self, *entries: ApiKey | ClientCertificate) -> Self:
        """With `entries` added, or in the place of those that have their ids."""
        by_id = {entry.id: entry for entry in (*self.every, *entries)}.values()
        return type(self)(
            keys=tuple(entry for entry in by_id if isinstance(entry, ApiKey)),
            certificates=tuple(entry for entry in by_id if isinstance(entry, ClientCertificate)),
        )

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        for entry_id, count in Counter(entry.id for entry in self.every).items():
            if count > 1:
                raise ValueError(f"{count} entries have the id {entry_id}")
        return self
