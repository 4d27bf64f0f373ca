"""`sayso gateway webhooks`: what endpoints have not taken, beside a gateway that runs or not."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sayso import SettingsError

from service.commands.terminal import Json, one_line_errors, print_json, say

if TYPE_CHECKING:
    from gateway.webhooks.endpoints import Endpoint, Webhooks
    from gateway.webhooks.outbox import Delivery, Outbox

app = typer.Typer(
    no_args_is_help=True,
    help="Webhooks of the gateway, as set up by SAYSO_GATEWAY_WEBHOOKS: what waits, what failed. "
    "Takes the gateway's own variables; a gateway that runs notices within a second.",
)

Name = Annotated[str, typer.Argument(help="The endpoint, as the TOML file names it.")]
OneOf = Annotated[str | None, typer.Option("--endpoint", help="Of this endpoint only.")]


@app.command("list")
def list_endpoints(as_json: Json = False) -> None:
    """List endpoints: where, whether on, how many events wait and failed.

    Example: sayso gateway webhooks list
    """
    with _open() as (webhooks, outbox):
        for name, endpoint in webhooks.endpoints.items():
            backlog = outbox.count(name)
            gone = outbox.is_gone(name)
            state = "disabled" if endpoint.disabled else "gone" if gone else "on"
            row = {
                "endpoint": name,
                "url": endpoint.url,
                "state": state,
                "pending": backlog.pending,
                "failed": backlog.failed,
                "oldest_pending": _format_time(backlog.oldest),
            }
            text = (
                f"{name}  {endpoint.url}  {state}, {backlog.pending} pending, "
                f"{backlog.failed} failed"
            )
            print_json(row) if as_json else say(text)


@app.command("failures")
def list_failures(endpoint: OneOf = None, as_json: Json = False) -> None:
    """List events that were given up, the newest last, with the reason.

    Example: sayso gateway webhooks failures --endpoint desk
    """
    with _open() as (_, outbox):
        for failure in outbox.list_failures(endpoint):
            row = _describe(failure)
            print_json(row) if as_json else say("  ".join(map(str, row.values())))


@app.command()
def replay(
    event_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of events that failed; without one, all.")
    ] = None,
    endpoint: OneOf = None,
    as_json: Json = False,
) -> None:
    """Delivers anew what was given up.

    Example: sayso gateway webhooks replay --endpoint desk
    """
    with _open() as (_, outbox):
        count = outbox.replay(endpoint, event_ids or [], now=time.time())
    if as_json:
        print_json({"deliveries": count})
    else:
        say(f"{count} deliveries will be tried again")


@app.command()
def enable(name: Name, as_json: Json = False) -> None:
    """Delivers again to an endpoint that answered 410 (gone). What it missed since is not sent.

    Example: sayso gateway webhooks enable desk
    """
    with _open() as (webhooks, outbox):
        _get_endpoint(webhooks, name)
        was_gone = outbox.enable(name)
    if as_json:
        print_json({"endpoint": name, "was_gone": was_gone})
    else:
        say(f"{name} is on again" if was_gone else f"{name} was not gone")


@app.command()
def test(name: Name, as_json: Json = False) -> None:
    """Posts an event of the type `dev.sayso.test` at once, and says what the endpoint answers.

    Example: sayso gateway webhooks test desk
    """
    with _open() as (webhooks, _):
        endpoint = _get_endpoint(webhooks, name)
        answer = asyncio.run(_post_test(endpoint, webhooks.source))
    if as_json:
        print_json({"endpoint": name, "ok": answer.ok, "answer": answer.explanation})
    else:
        say(f"{endpoint.url}: {answer.explanation}")
    if not answer.ok:
        raise typer.Exit(1)


@app.command("new-secret")
def make_secret(
    ed25519: Annotated[
        bool, typer.Option("--ed25519", help="A pair of keys; whoever receives needs the public.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a secret for a file of secrets; with --ed25519 the private key, then the public one.

    Example: sayso gateway webhooks new-secret --ed25519
    """
    with one_line_errors():
        from gateway.webhooks import signatures  # noqa: PLC0415

        made = signatures.make_key_pair() if ed25519 else (signatures.make_secret(),)
    if as_json:
        print_json(dict(zip(("secret", "public_key"), made, strict=False)))
        return
    for line in made:
        say(line)


@contextlib.contextmanager
def _open() -> Iterator[tuple["Webhooks", "Outbox"]]:
    with one_line_errors():
        from gateway.settings import Settings  # noqa: PLC0415
        from gateway.webhooks.endpoints import read_webhooks  # noqa: PLC0415
        from gateway.webhooks.outbox import open_outbox  # noqa: PLC0415

        settings = Settings.read()
        if settings.webhooks is None or settings.state is None:
            raise SettingsError("no webhooks are set up: set SAYSO_GATEWAY_WEBHOOKS")
        webhooks = read_webhooks(settings.webhooks)
        with open_outbox(settings.state, webhooks.max_pending) as outbox:
            yield webhooks, outbox


def _get_endpoint(webhooks: "Webhooks", name: str) -> "Endpoint":
    if name not in webhooks.endpoints:
        raise SettingsError(f"{name!r} is none of {', '.join(webhooks.endpoints)}")
    return webhooks.endpoints[name]


async def _post_test(endpoint: "Endpoint", source: str) -> Any:
    from gateway.webhooks.body import encode_event  # noqa: PLC0415
    from gateway.webhooks.sender import open_sender  # noqa: PLC0415

    now = time.time()
    event_id = f"test-{round(now * 1000)}"
    body = encode_event(
        event_id=event_id,
        kind="test",
        source=source,
        time=_format_time(now) or "",
        subject="",
        data={"eventId": event_id},
    )
    async with open_sender(endpoint, time.time) as sender:
        return await sender.post(event_id, body)


def _describe(failure: "Delivery") -> dict[str, Any]:
    return {
        "failed": _format_time(failure.failed),
        "endpoint": failure.endpoint,
        "type": failure.type,
        "event_id": failure.event_id,
        "attempts": failure.attempts,
        "error": failure.error,
    }


def _format_time(at: float | None) -> str | None:
    """In RFC 3339."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
