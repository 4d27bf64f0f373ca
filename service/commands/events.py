"""`sayso events`: what happens, as it happens."""

import itertools
from typing import Annotated, get_args

import typer
from rich.markup import escape
from sayso import Event, EventType

from service.commands.options import LOCAL, Server, connect
from service.commands.terminal import Json, out, print_json
from service.errors import InvalidArgument


def events(
    server: Server = LOCAL,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only events of this type, e.g. call.ended; may be repeated."),
    ] = None,
    speaker: Annotated[str, typer.Option(help="Only events about this speaker.")] = "",
    after: Annotated[
        str, typer.Option(help="Go on after the event with this resume token (see --json).")
    ] = "",
    from_oldest: Annotated[
        bool, typer.Option("--from-oldest", help="Begin with the oldest event that is kept.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="End after so many events; without it, never.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print decisions, locks and enrollments as they happen, until Ctrl-C.

    Example: sayso events --type speaker.locked --type watchlist.matched --json
    """
    with connect(server) as sayso:
        watching = sayso.watch_events(
            types=_parse_types(types or ()),
            speaker_id=speaker,
            resume_token=after,
            from_oldest=from_oldest,
        )
        for event in itertools.islice(watching, limit):
            if as_json:
                print_json(event)
            else:
                out.print(escape(format_event(event)), soft_wrap=True)


def format_event(event: Event) -> str:
    """Format an event as one line: time, type, speaker, and what came of it."""
    parts = [f"{event.created_at:%Y-%m-%d %H:%M:%S}", f"{event.type:<20}", event.speaker_id or "-"]
    if event.decision is not None:
        parts += [event.decision.outcome, *event.decision.reasons]
    parts += [f"matches {match.speaker_id} ({match.group})" for match in event.watchlist_matches]
    if event.type == "speaker.locked":
        until = event.locked_until
        parts.append(f"until {until:%H:%M:%S}" if until else "until `sayso speakers unlock`")
    if event.lost:
        parts.append(f"({event.lost} events before it are gone)")
    return "  ".join(parts)


def _parse_types(names: list[str] | tuple[str, ...]) -> list[EventType]:
    known = get_args(EventType)
    if unknown := [name for name in names if name not in known]:
        raise InvalidArgument(f"{unknown[0]!r} is none of {', '.join(known)}", field="--type")
    return list(names)  # type: ignore[arg-type]
