"""`sayso verify`, `identify`: recordings go to a server, decisions come back."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from service.client import Decision, Match
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
from service.commands.terminal import err, out, tell_matches


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
        decisions = [
            sayso.verify(
                speaker_id,
                path,
                raw=raw,
                channel=channel,
                target_false_match_rate=target_false_match_rate,
                watchlists=watchlist or (),
            )
            for path in track(recordings, "verifying", console=err, transient=True)
        ]
    out.print(_decisions_table([path.name for path in recordings], decisions))
    for path, decision in zip(recordings, decisions, strict=True):
        tell_matches(path.name, decision.watchlist_matches)
    if not all(decision.accepted for decision in decisions):
        raise typer.Exit(1)


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
        found = [
            sayso.identify(
                group,
                path,
                raw=raw,
                channel=channel,
                target_false_match_rate=target_false_match_rate,
                max_candidates=candidates,
            )
            for path in track(recordings, "identifying", console=err, transient=True)
        ]
    out.print(
        _decisions_table(
            [path.name for path in recordings],
            [each.decision for each in found],
            candidates=[each.candidates for each in found],
        )
    )
    if not all(each.decision.accepted for each in found):
        raise typer.Exit(1)


def _decisions_table(
    names: list[str],
    decisions: list[Decision],
    *,
    candidates: list[tuple[Match, ...]] | None = None,
) -> Table:
    table = Table("recording", "decision", "LLR", "threshold", "cosine", "net speech", "why")
    if candidates is not None:
        table.add_column("candidates, by LLR")
    for index, (name, made) in enumerate(zip(names, decisions, strict=True)):
        scores = (
            _number(made.llr) or (made.band or "").lower(),
            _number(made.threshold_llr),
            _number(made.cosine),
        )
        row = [name, made.outcome, *scores, f"{made.net_speech_s:.1f} s", made.explanation]
        if candidates is not None:
            named = (f"{at.speaker_id} {_number(at.llr)}".rstrip() for at in candidates[index])
            row.append("\n".join(named))
        table.add_row(*map(escape, row))
    return table


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"
