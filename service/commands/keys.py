"""`sayso keys`: who may call a server, on the machine that has its key file."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import typer
from rich.markup import escape
from rich.table import Column, Table

from service.access import Role, is_tenant, key_file
from service.access.certificates import NameKind
from service.access.grants import ApiKey, ClientCertificate, Grants
from service.access.keys import make_id, make_key, rotate_key
from service.audit import Action
from service.commands.audit import record_change
from service.commands.terminal import err, one_line_errors, out
from service.errors import AlreadyExists

T = TypeVar("T")
_Entry: TypeAlias = ApiKey | ClientCertificate
_Edit: TypeAlias = Callable[[Grants], tuple[Grants, _Entry, T]]

app = typer.Typer(
    help="Make, list, rotate and revoke API keys; trust client certificates.",
    no_args_is_help=True,
)


def _check_tenant(name: str) -> str:
    if not is_tenant(name):
        raise typer.BadParameter("1 to 64 of letters, digits, '.', '_' and '-'")
    return name


def _parse_role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        raise typer.BadParameter(f"one of {', '.join(Role)}") from None


KeyFile = Annotated[
    Path, typer.Option("--keys", envvar="SAYSO_KEYS", help="The key file.", dir_okay=False)
]
Audit = Annotated[
    Path | None,
    typer.Option("--audit", envvar="SAYSO_AUDIT", help="The audit trail, to record this in."),
]
EntryId = Annotated[str, typer.Argument(help="As `sayso keys list` shows it.")]
Tenant = Annotated[
    str, typer.Option("--tenant", callback=_check_tenant, help="Whose speakers it may ask about.")
]
Roles = Annotated[
    list[Role],
    typer.Option(
        "--role",
        parser=_parse_role,
        metavar=f"[{'|'.join(Role)}]",
        help="What it may do; once for each role. No role includes another.",
    ),
]
Days = Annotated[
    float | None, typer.Option("--expires-days", min=0, help="How long it holds. [forever]")
]


@app.command("create")
def create_key(
    keys: KeyFile, tenant: Tenant, role: Roles, expires_days: Days = None, audit: Audit = None
) -> None:
    """Makes an API key and prints it, once: the file holds only a hash of it."""
    now = datetime.now(UTC)
    key, entry = make_key(tenant, role, now=now, expires=_add_days(now, expires_days))
    _change(keys, audit, "created", lambda grants: (grants.replace(entry), entry, None))
    _print_once(key)


@app.command("trust")
def trust_certificate(
    name: Annotated[
        str,
        typer.Argument(
            help="A subject alternative name of the client's certificate, e.g. "
            "spiffe://bank/ivr, or the common name of one without any."
        ),
    ],
    keys: KeyFile,
    tenant: Tenant,
    role: Roles,
    kind: Annotated[
        NameKind | None, typer.Option(help="What kind of name it is, if its looks do not say so.")
    ] = None,
    expires_days: Days = None,
    audit: Audit = None,
) -> None:
    """Lets clients call that show a certificate of this name (mutual TLS)."""
    now = datetime.now(UTC)
    entry = ClientCertificate(
        id=make_id(),
        tenant=tenant,
        roles=frozenset(role),
        created=now,
        expires=_add_days(now, expires_days),
        name=name,
        kind=kind,
    )
    _change(
        keys, audit, "trusted", lambda grants: (_add_certificate(grants, entry, now), entry, None)
    )
    out.print(f"trusted as {entry.id}", highlight=False)


@app.command("list")
def list_keys(keys: KeyFile) -> None:
    """Lists keys and certificates; never a secret, which the file does not hold."""
    with one_line_errors():
        grants = key_file.read(keys)
    now = datetime.now(UTC)
    what = Column("what", overflow="fold")
    table = Table(Column("id", no_wrap=True), what, "tenant", "roles", "expires", "state")
    for entry in grants.entries:
        table.add_row(
            entry.id,
            "API key" if isinstance(entry, ApiKey) else escape(entry.name),
            entry.tenant,
            ", ".join(entry.role_names),
            f"{entry.expires:%Y-%m-%d %H:%M}" if entry.expires else "",
            entry.state(now),
        )
    out.print(table)


@app.command("revoke")
def revoke(entry_id: EntryId, keys: KeyFile, audit: Audit = None) -> None:
    """Ends a key or the trust in a certificate; running servers follow within a second or two."""
    now = datetime.now(UTC)

    def edit(grants: Grants) -> tuple[Grants, _Entry, None]:
        entry = grants.find(entry_id)
        revoked = entry.model_copy(update={"revoked": entry.revoked or now})
        return grants.replace(revoked), revoked, None

    _change(keys, audit, "revoked", edit)
    out.print("revoked", highlight=False)


@app.command("rotate")
def rotate(
    entry_id: EntryId,
    keys: KeyFile,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="How long the old key still holds.")
    ] = 24.0,
    expires_days: Days = None,
    audit: Audit = None,
) -> None:
    """Makes a new key for the tenant and roles of another, and prints it, once.

    Without --expires-days it holds as long as the other was made to.
    """
    now = datetime.now(UTC)
    grace, expires = timedelta(hours=grace_hours), _add_days(now, expires_days)

    def edit(grants: Grants) -> tuple[Grants, _Entry, str]:
        key, new, old = rotate_key(grants, entry_id, now=now, grace=grace, expires=expires)
        return grants.replace(old, new), new, key

    _print_once(_change(keys, audit, f"made for {entry_id}", edit))


def _change(keys: Path, audit: Path | None, what: str, edit: _Edit[T]) -> T:
    """Change the key file, with an audit entry before and another when it is done."""

    def audited_edit(grants: Grants) -> tuple[Grants, tuple[_Entry, T]]:
        changed, entry, result = edit(grants)
        _record(audit, "BEGUN", entry, what)
        return changed, (entry, result)

    with one_line_errors():
        entry, result = key_file.change(keys, audited_edit)
        _record(audit, "DONE", entry, what)
    return result


def _record(audit: Path | None, outcome: str, entry: _Entry, what: str) -> None:
    roles = " ".join(entry.role_names)
    record_change(audit, Action.KEY, outcome, entry.tenant, entry=entry.id, what=what, roles=roles)


def _add_days(now: datetime, days: float | None) -> datetime | None:
    return None if days is None else now + timedelta(days=days)


def _print_once(key: str) -> None:
    """Print only the key to standard output, for `KEY=$(sayso keys create ...)`."""
    err.print("keep it now; it cannot be shown again:", highlight=False)
    out.print(key, highlight=False, markup=False, soft_wrap=True)


def _add_certificate(grants: Grants, entry: ClientCertificate, now: datetime) -> Grants:
    for other in grants.certificates:
        shared = set(other.names) & set(entry.names)
        if shared and other.state(now) == "valid":
            raise AlreadyExists(f"{entry.name} is trusted as {other.id}; revoke that first")
    return grants.replace(entry)
