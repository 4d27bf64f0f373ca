"""`sayso tenants`: manage the keys that seal a store, which it opens directly, without a server."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from service.audit import Action
from service.commands.audit import record_change
from service.commands.terminal import Json, err, one_line_errors, out, print_json, say, warn
from service.errors import StillReadable
from service.sealing import KeySet, Sealing
from service.settings import Settings
from service.store import SealedStore, open_store, upkeep

_Result = TypeVar("_Result")
_TIMEOUT_S = 30.0

app = typer.Typer(no_args_is_help=True)

Tenant = Annotated[str, typer.Argument(help="The tenant's name.")]


@app.callback()
def choose(
    context: typer.Context,
    store: Annotated[
        str | None,
        typer.Option(help="sqlite:///file or redis://host:port/db. [SAYSO_STORE, sayso.db]"),
    ] = None,
) -> None:
    """Seal tenants' voices, change the keys they are sealed by, and erase them.

    Store and master key are those of the servers: the same environment variables name them.
    """
    context.obj = store


@app.command("list")
def list_tenants(context: typer.Context, as_json: Json = False) -> None:
    """List the tenants that have speakers or keys, and what seals them.

    Example: sayso tenants --store sqlite:///sayso.db list
    """
    tenants = _run(context, _list_tenants)
    if as_json:
        for tenant, speakers, keys in tenants:
            print_json({"tenant": tenant, "speakers": speakers, "sealed_by": _describe_keys(keys)})
        return
    table = Table("tenant", "speakers", "sealed by")
    for tenant, speakers, keys in tenants:
        table.add_row(escape(tenant), str(speakers), _describe_keys(keys))
    out.print(table)


@app.command("seal")
def seal(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(help="The tenant's name; or --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every tenant there is.")] = False,
    as_json: Json = False,
) -> None:
    """Rewrites whatever is not sealed by its tenant's current key, and destroys earlier keys.

    Servers may run meanwhile. May be interrupted, and run again.

    Example: sayso tenants seal --all
    """
    if (tenant is None) is not every:
        raise typer.BadParameter("name a tenant, or say --all")

    async def work(store: SealedStore) -> int:
        tenants = await store.tenants() if tenant is None else [tenant]
        names = [name for name in tenants if not every or not await _is_erased(store, name)]
        return sum([await upkeep.seal(store, name) for name in names])

    sealed = _run_audited(context, "seal", tenant or "", work)
    result = f"{sealed} speakers were sealed, the others were already"
    _print(result, as_json=as_json, sealed=sealed)


@app.command("rotate-key")
def rotate_key(context: typer.Context, tenant: Tenant, as_json: Json = False) -> None:
    """Make a new key for a tenant and seal everything by it; servers may run meanwhile.

    A tenant whose key was erased can enroll again afterwards.

    Example: sayso tenants rotate-key bank
    """
    sealed = _run_audited(context, "rotate-key", tenant, lambda store: upkeep.rotate(store, tenant))
    result = f"{sealed} speakers were sealed by the new key, and the earlier one is destroyed"
    _print(result, as_json=as_json, sealed=sealed)


@app.command("rewrap")
def rewrap(context: typer.Context, as_json: Json = False) -> None:
    """Wrap every tenant's keys under the newest master key; the records stay as they are.

    Example: sayso tenants rewrap
    """
    rewrapped = _run_audited(context, "rewrap", "", upkeep.rewrap)
    result = f"{rewrapped} keys are wrapped by the newest master key"
    _print(result, as_json=as_json, rewrapped=rewrapped)


@app.command("erase-key")
def erase_key(
    context: typer.Context,
    tenant: Tenant,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Destroys a tenant's keys and so all of its voices, then deletes its speakers.

    Servers stop reading them within a minute. Needs no master key. There is no way back. Exits
    with 1 if another process keeps a copy readable after that: end that process, and run it again.

    Example: sayso tenants erase-key bank
    """
    if not yes:
        typer.confirm(f"Erase every voice of {tenant}, forever?", abort=True, err=as_json)
    deleted = _run_audited(context, "erase-key", tenant, lambda store: upkeep.erase(store, tenant))
    result = f"the keys of {tenant} are destroyed, and {deleted} speakers deleted"
    _print(result, as_json=as_json, deleted=deleted)
    if not Settings.read(store=context.obj).store.startswith("sqlite"):
        advice = "Redis' append-only file holds them until it is rewritten: BGREWRITEAOF"
        (warn if as_json else say)(advice)


@app.command("expire")
def expire(
    context: typer.Context,
    tenant: Tenant,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Erases a tenant's expired voices now, also more of them than servers erase by themselves.

    Goes by this machine's clock, and by SAYSO_EXPIRE_AFTER_DAYS. There is no way back.

    Example: sayso tenants expire bank
    """
    from service.speakers.expiry import erase_expired, survey_voices  # noqa: PLC0415
    from service.wiring import make_retention  # noqa: PLC0415 - other commands start without it

    rules = make_retention(Settings.read(store=context.obj))
    now = rules.clock()
    survey = _run(context, lambda store: survey_voices(store, tenant, rules, since=now))
    today = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
    expired = f"{len(survey.expired)} of {survey.voices} voices of {tenant} have expired by {today}"
    (warn if as_json else say)(expired)
    if not survey.expired:
        if as_json:
            print_json({"voices": survey.voices, "erased": 0})
        return
    if not yes:
        typer.confirm("Erase them, forever?", abort=True, err=as_json)
    erased = _run_audited(
        context,
        "expire",
        tenant,
        lambda store: erase_expired(store, tenant, survey, rules, audit=contextlib.nullcontext),
    )
    _print(f"{erased} voices were erased", as_json=as_json, voices=survey.voices, erased=erased)


@app.command("check")
def check(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(help="The tenant's name; else every one.")] = None,
    as_json: Json = False,
) -> None:
    """Names the speakers whose records cannot be read, and says why; exits with 1 for any.

    Servers leave them out of lists and searches. Delete the speaker, or restore it from a backup.

    Example: sayso tenants check bank
    """

    async def work(store: SealedStore) -> list[tuple[str, str, str]]:
        tenants = await store.tenants() if tenant is None else [tenant]
        return [
            (name, speaker_id, error.message)
            for name in tenants
            if not await _is_erased(store, name)
            async for speaker_id, error in upkeep.find_damaged(store, name)
        ]

    damaged = _run(context, work)
    for name, speaker_id, why in damaged:
        if as_json:
            print_json({"tenant": name, "speaker_id": speaker_id, "problem": why})
        else:
            say(f"{name}: {speaker_id}: {why}")
    if damaged:
        raise typer.Exit(1)
    (warn if as_json else say)("every record can be read")


def _run(context: typer.Context, work: Callable[[SealedStore], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        async with _open(Settings.read(store=context.obj)) as store:
            return await work(store)

    with one_line_errors():
        try:
            return asyncio.run(run())
        except StillReadable as error:
            err.print(f"[red]not finished:[/red] {escape(error.message)}", soft_wrap=True)
            raise typer.Exit(1) from error


def _run_audited(
    context: typer.Context,
    change: str,
    tenant: str,
    work: Callable[[SealedStore], Awaitable[_Result]],
) -> _Result:
    """Return the result of `work`, with an audit entry before it and another when it is done."""
    _record("BEGUN", change, tenant)
    result = _run(context, work)
    _record("DONE", change, tenant)
    return result


def _record(outcome: str, change: str, tenant: str) -> None:
    with one_line_errors():
        record_change(Settings.read().trail.folder, Action.ADMIN, outcome, tenant, change=change)


def _open(settings: Settings) -> SealedStore:
    """Open the store so that it also reads unsealed records, which servers may refuse."""
    from service.wiring import make_kms  # noqa: PLC0415 - other commands start without it

    kms = make_kms(settings)
    options = replace(settings.sealing, sealed_only=False)
    sealing = None if kms is None else Sealing(kms, options)
    return open_store(settings.store, timeout_s=_TIMEOUT_S, sealing=sealing)


async def _list_tenants(store: SealedStore) -> Sequence[tuple[str, int, KeySet]]:
    return [
        (tenant, await store.count(tenant), await store.keys.read(tenant))
        for tenant in await store.tenants()
    ]


async def _is_erased(store: SealedStore, tenant: str) -> bool:
    return (await store.keys.read(tenant)).erased


def _describe_keys(keys: KeySet) -> str:
    if keys.erased:
        return "erased"
    if not keys.current:
        return "nothing"
    earlier = sorted(keys.wrapped.keys() - {keys.current})
    left = f", and by {', '.join(map(str, earlier))} until `seal` is run" if earlier else ""
    return f"key {keys.current}{left}"


def _print(text: str, *, as_json: bool, **fields: int) -> None:
    """Print a result: in words, or its fields as JSON."""
    if as_json:
        print_json(fields)
    else:
        say(text)
