"""`sayso verify` and `sayso identify`: send recordings to a server and show its decisions."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from sayso import Decision, Identification, InvalidArgument, Match

from service.commands.options import (
    LOCAL,
    ChannelOption,
    EncodingOption,
    GroupName,
    PolicyName,
    Rate,
    Recordings,
    Server,
    SpeakerId,
    Watchlists,
    connect,
    parse_raw_audio,
)
from service.commands.terminal import (
    Json,
    for_each,
    list_fields,
    out,
    print_json,
    print_matches,
)


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
    policy: PolicyName = "",
    alternative: Annotated[
        list[str] | None,
        typer.Option(
            "--or", help="Who else may be speaking, e.g. of a household; up to 7, one each."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decides whether recordings are the enrolled voice; exit status 0 when all are accepted.

    LLR is the natural log of how much likelier the audio is from this speaker than from another. A
    credential without the role `analyze` is told it in words: weak, moderate or strong.

    Example: sayso verify anna call.wav --or ben --or carla --policy payments
    """
    raw = parse_raw_audio(encoding, sample_rate)
    with connect(server) as sayso:

        def ask(path: Path) -> Decision:
            return sayso.verify(
                (speaker_id, *(alternative or ())),
                path,
                raw=raw,
                channel=channel,
                target_false_match_rate=target_false_match_rate,
                watchlists=watchlist or (),
                policy=policy,
            )

        answers = list(for_each(recordings, "verifying", ask))
    if as_json:
        _print_answers(answers)
    else:
        _print_decisions(answers)
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
    policy: PolicyName = "",
    as_json: Json = False,
) -> None:
    """Find who of a group is speaking; exit status 0 when every recording is of a member.

    Example: sayso identify customers call.wav --candidates 5
    """
    raw = parse_raw_audio(encoding, sample_rate)
    with connect(server) as sayso:

        def ask(path: Path) -> Identification:
            return sayso.identify(
                group,
                path,
                raw=raw,
                channel=channel,
                target_false_match_rate=target_false_match_rate,
                max_candidates=candidates,
                policy=policy,
            )

        answers = list(for_each(recordings, "identifying", ask))
    if as_json:
        _print_answers(answers)
    else:
        _print_identifications(answers)
    _exit(
        [answer.decision if isinstance(answer, Identification) else answer for _, answer in answers]
    )


def _print_answers(
    answers: Iterable[tuple[Path, Decision | Identification | InvalidArgument]],
) -> None:
    """Print a line of JSON for each recording: all fields of its answer, or its error."""
    for path, answer in answers:
        print_json({"recording": path, **list_fields(answer)})


def _print_decisions(answers: Sequence[tuple[Path, Decision | InvalidArgument]]) -> None:
    table = _decisions_table()
    for path, decision in answers:
        _add_decision(table, path.name, decision)
    out.print(table)
    for path, decision in answers:
        if isinstance(decision, Decision):
            print_matches(path.name, decision.watchlist_matches)


def _print_identifications(
    answers: Iterable[tuple[Path, Identification | InvalidArgument]],
) -> None:
    table = _decisions_table("candidates, by LLR")
    for path, answer in answers:
        if isinstance(answer, Identification):
            _add_decision(table, path.name, answer.decision, _format_candidates(answer.candidates))
        else:
            _add_decision(table, path.name, answer)
    out.print(table)


def _decisions_table(*more: str) -> Table:
    columns = ("recording", "decision", "LLR", "threshold", "cosine", "net speech", "why", *more)
    return Table(*columns)


def _add_decision(
    table: Table, name: str, decision: Decision | InvalidArgument, *more: str
) -> None:
    if isinstance(decision, InvalidArgument):
        table.add_row(escape(name), "not read", *[""] * 4, escape(str(decision)))
        return
    scores = (
        _format_score(decision.llr) or (decision.band or "").lower(),
        _format_score(decision.threshold_llr),
        _format_score(decision.cosine),
    )
    speech = f"{decision.net_speech_s:.1f} s"
    who = decision.matched_speaker_id if decision.claimed_speakers else ""
    outcome = f"{decision.outcome} {who}".rstrip()
    row = [name, outcome, *scores, speech, decision.explanation, *more]
    table.add_row(*map(escape, row))


def _format_candidates(candidates: tuple[Match, ...]) -> str:
    return "\n".join(
        f"{match.speaker_id} {_format_score(match.llr)}".rstrip() for match in candidates
    )


def _exit(decisions: list[Decision | InvalidArgument]) -> None:
    """Exit with 2 if a recording could not be read, with 1 if one was not accepted."""
    if any(isinstance(decision, InvalidArgument) for decision in decisions):
        raise typer.Exit(2)
    if not all(made.accepted for made in decisions if isinstance(made, Decision)):
        raise typer.Exit(1)


def _format_score(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"
