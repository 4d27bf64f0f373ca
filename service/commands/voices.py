"""`sayso verify`, `identify`: recordings go to a server, decisions come back."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from service.client import Decision, Identification, Match
from service.commands.connection import connected
from service.commands.options import (
    LOCAL,
    ChannelOption,
    EncodingOption,
    GroupName,
    Rate,
    Recordings,
    Server,
    SpeakerId,
    Watchlists,
    raw_audio,
)
from service.commands.terminal import for_each, out, tell_matches
from service.errors import InvalidArgument


def verify(
    speaker_id: SpeakerId,
    recordings: Recordings,
    server: Server = LOCAL,
    encoding: EncodingOption = None,
    sample_rate: Rate = None,
    channel: ChannelOption = None,
    target_false_match_rate: Annotated[
        float | None,
        typer.Option(help="Accept this share of other speakers, e.g. 0.01. [the server's]"),
    ] = None,
    watchlist: Watchlists = None,
) -> None:
    """Decides whether recordings are the enrolled voice; exit status 0 when all are accepted.

    LLR is the natural log of how much likelier the audio is from this speaker than from another. A
    credential without the role `analyze` is told it in words: weak, moderate or strong.
    """
    raw = raw_audio(encoding, sample_rate)
    with connected(server) as sayso:

        def ask(path: Path) -> Decision:
            return sayso.verify(
                speaker_id,
                path,
                raw=raw,
                channel=channel,
                target_false_match_rate=target_false_match_rate,
                watchlists=watchlist or (),
            )

        answers = list(for_each(recordings, "verifying", ask))
    table = _decisions_table()
    for path, decision in answers:
        _add_decision(table, path.name, decision)
    out.print(table)
    for path, decision in answers:
        if isinstance(decision, Decision):
            tell_matches(path.name, decision.watchlist_matches)
    _exit([decision for _, decision in answers])


def identify(
    group: GroupName,
    recordings: Recordings,
    server: Server = LOCAL,
    encoding: EncodingOption = None,
    sample_rate: Rate = None,
    channel: ChannelOption = None,
    candidates: Annotated[int, typer.Option(help="How many to show.", min=1, max=100)] = 3,
    target_false_match_rate: Annotated[
        float | None,
        typer.Option(help="Take this share of strangers for a member, e.g. 0.01. [the server's]"),
    ] = None,
) -> None:
    """Finds who of a group is speaking; exit status 0 when every recording is of a member."""
    raw = raw_audio(encoding, sample_rate)
    with connected(server) as sayso:

        def ask(path: Path) -> Identification:
            return sayso.identify(
                group,
                path,
                raw=raw,
                channel=channel,
                target_false_match_rate=target_false_match_rate,
                max_candidates=candidates,
            )

        answers = list(for_each(recordings, "identifying", ask))
    table = _decisions_table("candidates, by LLR")
    for path, found in answers:
        if isinstance(found, Identification):
            _add_decision(table, path.name, found.decision, _listed(found.candidates))
        else:
            _add_decision(table, path.name, found)
    out.print(table)
    _exit([found.decision if isinstance(found, Identification) else found for _, found in answers])


def _decisions_table(*more: str) -> Table:
    columns = ("recording", "decision", "LLR", "threshold", "cosine", "net speech", "why", *more)
    return Table(*columns)


def _add_decision(table: Table, name: str, made: Decision | InvalidArgument, *more: str) -> None:
    if isinstance(made, InvalidArgument):
        table.add_row(escape(name), "not read", *[""] * 4, escape(str(made)))
        return
    scores = (
        _number(made.llr) or (made.band or "").lower(),
        _number(made.threshold_llr),
        _number(made.cosine),
    )
    row = [name, made.outcome, *scores, f"{made.net_speech_s:.1f} s", made.explanation, *more]
    table.add_row(*map(escape, row))


def _listed(candidates: tuple[Match, ...]) -> str:
    return "\n".join(f"{at.speaker_id} {_number(at.llr)}".rstrip() for at in candidates)


def _exit(decisions: list[Decision | InvalidArgument]) -> None:
    """Ends with 2 if a recording could not be read, with 1 if one was not accepted."""
    if any(isinstance(made, InvalidArgument) for made in decisions):
        raise typer.Exit(2)
    if not all(made.accepted for made in decisions if isinstance(made, Decision)):
        raise typer.Exit(1)


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"
