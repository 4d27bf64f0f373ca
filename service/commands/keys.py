"""`sayso keys`: who may call a server, on the machine that has its key file."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer
from rich.markup import escape
from rich.table import Column, Table

from service.access import Role, is_tenant, key_file, last_use
from service.access.certificates import NameKind
from service.access.grants import MAX_LABEL, ApiKey, ClientCertificate, Grants
from service.access.keys import make_id, make_key, rotate_key
from service.audit import Action
from service.commands.audit import record_change
from service.commands.terminal import Json, one_line_errors, out, print_json, say, warn
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


def _check_label(text: str) -> str:
    if len(text) > MAX_LABEL or not text.isprintable():
        raise typer.BadParameter(f"is one line of at most {MAX_LABEL} characters")
    return text


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
Label = Annotated[
    str,
    typer.Option(
        callback=_check_label,
        help="For people: who or what it is for, at most 64 characters.",
        show_default=False,
    ),
]


@app.command("create")
def create_key(
    keys: KeyFile,
    tenant: Tenant,
    role: Roles,
    label: Label = "",
    expires_days: Days = None,
    audit: Audit = None,
    as_json: Json = False,
) -> None:
    """Make an API key and print it, once: the file holds only a hash of it.

    Example: sayso keys create --keys keys.json --tenant bank --role verify --label "IVR, Leeds"
    """
    now = datetime.now(UTC)
    expires = _add_days(now, expires_days)
    key, entry = make_key(tenant, role, label=label, now=now, expires=expires)
    _change(keys, audit, "created", lambda grants: (grants.replace(entry), entry, None))
    _print_once(key, entry, now, as_json=as_json)


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
    label: Label = "",
    expires_days: Days = None,
    audit: Audit = None,
    as_json: Json = False,
) -> None:
    """Lets clients call that show a certificate of this name (mutual TLS).

    Example: sayso keys trust spiffe://bank/ivr --keys keys.json --tenant bank --role verify
    """
    now = datetime.now(UTC)
    entry = ClientCertificate(
        id=make_id(),
        tenant=tenant,
        roles=frozenset(role),
        label=label,
        created=now,
        expires=_add_days(now, expires_days),
        name=name,
        kind=kind,
    )
    _change(
        keys, audit, "trusted", lambda grants: (_add_certificate(grants, entry, now), entry, None)
    )
    if as_json:
        print_json(_describe(entry, now))
    else:
        say(f"trusted as {entry.id}")


@app.command("list")
def list_keys(keys: KeyFile, as_json: Json = False) -> None:
    """List keys and certificates; never a secret, which the file does not hold. Times are UTC.

    Servers write last uses each minute to a file beside the key file, if they may.

    Example: sayso keys list --keys keys.json
    """
    with one_line_errors():
        grants = key_file.read(keys)
    now, last_uses = datetime.now(UTC), last_use.read(keys)
    if as_json:
        for entry in grants.entries:
            print_json({**_describe(entry, now), "last_use": last_uses.get(entry.id)})
        return
    columns = ("label", "tenant", "roles", "created", "expires", "last use", "state")
    table = Table(Column("id", no_wrap=True), Column("what", overflow="fold"), *columns)
    for entry in grants.entries:
        table.add_row(
            entry.id,
            "API key" if isinstance(entry, ApiKey) else escape(entry.name),
            escape(entry.label),
            entry.tenant,
            ", ".join(entry.role_names),
            _format_time(entry.created),
            _format_time(entry.expires),
            _format_time(last_uses.get(entry.id)),
            entry.state(now),
        )
    out.print(table)


@app.command("revoke")
def revoke(entry_id: EntryId, keys: KeyFile, audit: Audit = None, as_json: Json = False) -> None:
    """End a key or the trust in a certificate; running servers follow within a second or two.

    Example: sayso keys revoke 1f21f10b58f1f964 --keys keys.json
    """
    now = datetime.now(UTC)

    def edit(grants: Grants) -> tuple[Grants, _Entry, _Entry]:
        entry = grants.find(entry_id)
        revoked = entry.model_copy(update={"revoked": entry.revoked or now})
        return grants.replace(revoked), revoked, revoked

    revoked = _change(keys, audit, "revoked", edit)
    if as_json:
        print_json(_describe(revoked, now))
    else:
        say("revoked")


@app.command("rotate")
def rotate(
    entry_id: EntryId,
    keys: KeyFile,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="How long the old key still holds.")
    ] = 24.0,
    expires_days: Days = None,
    audit: Audit = None,
    as_json: Json = False,
) -> None:
    """Make a new key for the tenant and roles of another, and print it, once.

    Without --expires-days it holds as long as the other was made to.

    Example: sayso keys rotate 1f21f10b58f1f964 --keys keys.json --grace-hours 24
    """
    now = datetime.now(UTC)
    grace, expires = timedelta(hours=grace_hours), _add_days(now, expires_days)

    def edit(grants: Grants) -> tuple[Grants, _Entry, tuple[str, ApiKey]]:
        key, new, old = rotate_key(grants, entry_id, now=now, grace=grace, expires=expires)
        return grants.replace(old, new), new, (key, new)

    key, entry = _change(keys, audit, f"made for {entry_id}", edit)
    _print_once(key, entry, now, as_json=as_json)


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


def _print_once(key: str, entry: ApiKey, now: datetime, *, as_json: bool) -> None:
    """Print only the key to standard output, for `KEY=$(sayso keys create ...)`, or an object that
    holds it."""
    warn("keep it now; it cannot be shown again:")
    if as_json:
        print_json({"key": key, **_describe(entry, now)})
    else:
        say(key)


def _describe(entry: _Entry, now: datetime) -> dict[str, Any]:
    """Describe an entry for JSON, without the hash of its secret."""
    return {
        "id": entry.id,
        "certificate": entry.name if isinstance(entry, ClientCertificate) else None,
        "label": entry.label,
        "tenant": entry.tenant,
        "roles": entry.role_names,
        "created": entry.created,
        "expires": entry.expires,
        "revoked": entry.revoked,
        "state": entry.state(now),
    }


def _format_time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""


def _add_certificate(grants: Grants, entry: ClientCertificate, now: datetime) -> Grants:
    for other in grants.certificates:
        shared = set(other.names) & set(entry.names)
        if shared and other.state(now) == "valid":
            raise AlreadyExists(f"{entry.name} is trusted as {other.id}; revoke that first")
    return grants.replace(entry)
