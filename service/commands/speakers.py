"""`sayso speakers`: who is enrolled, and every change to one of them."""

import dataclasses
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from sayso import FailedVerifications, Migration, Speaker

from service.commands.options import LOCAL, Consent, Server, SpeakerId, connect
from service.commands.terminal import Json, out, print_json, say

app = typer.Typer(help="List, show, change and delete speakers.", no_args_is_help=True)


class State(StrEnum):
    """The states of a speaker, as the API names them."""

    PENDING = "PENDING"
    UNCONFIRMED = "UNCONFIRMED"
    ENROLLED = "ENROLLED"
    EXPIRED = "EXPIRED"
    OPTED_OUT = "OPTED_OUT"
    WITHOUT_CONSENT = "WITHOUT_CONSENT"


@app.command("list")
def list_speakers(
    server: Server = LOCAL,
    state: Annotated[
        list[State] | None,
        typer.Option(case_sensitive=False, help="Only speakers of this state; may be repeated."),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="Only with this entry, key=value; with all of them if repeated."),
    ] = None,
    expires_before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            metavar="DATE",
            help="Only voices that expire before this date or time, UTC, unless they are used.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Only with a voiceprint of this model id.", show_default=False)
    ] = "",
    reverse: Annotated[
        bool, typer.Option("--reverse", help="From the last id to the first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the speakers, in the order of their ids: all of them, or those that every filter
    allows.

    Example: sayso speakers list --state expired --metadata branch=12 --json
    """
    with connect(server) as sayso:
        speakers = sayso.speakers.list(
            states=state or (),
            metadata=_parse_entries(metadata or []),
            expires_before=expires_before and expires_before.replace(tzinfo=UTC),
            model_id=model,
            descending=reverse,
        )
        if as_json:
            for speaker in speakers:
                print_json(speaker)
        else:
            out.print(_speakers_table(speakers))


@app.command("show")
def show_speaker(speaker_id: SpeakerId, server: Server = LOCAL, as_json: Json = False) -> None:
    """Show one speaker, but never its vectors.

    Example: sayso speakers show 27-1182
    """
    with connect(server) as sayso:
        _print_speaker(sayso.speakers.get(speaker_id), as_json=as_json)


@app.command("update")
def update_speaker(
    speaker_id: SpeakerId,
    server: Server = LOCAL,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="key=value; once for each entry. Replaces what there is."),
    ] = None,
    consent: Consent = None,
    as_json: Json = False,
) -> None:
    """Change a speaker's metadata, consent, or both.

    Example: sayso speakers update 27-1182 --metadata branch=12 --consent form-881
    """
    entries = _parse_entries(metadata) if metadata else None
    with connect(server) as sayso:
        updated = sayso.speakers.update(speaker_id, metadata=entries, consent=consent)
    _print_speaker(updated, as_json=as_json)


@app.command("withdraw-consent")
def withdraw_consent(speaker_id: SpeakerId, server: Server = LOCAL, as_json: Json = False) -> None:
    """Stop all use of a speaker's voice until a consent is recorded again.

    Example: sayso speakers withdraw-consent 27-1182
    """
    with connect(server) as sayso:
        _print_speaker(sayso.speakers.withdraw_consent(speaker_id), as_json=as_json)


@app.command("opt-out")
def opt_out(speaker_id: SpeakerId, server: Server = LOCAL, as_json: Json = False) -> None:
    """Erases a speaker's voice at once and refuses to enroll it again.

    Example: sayso speakers opt-out 27-1182
    """
    with connect(server) as sayso:
        _print_speaker(sayso.speakers.opt_out(speaker_id), as_json=as_json)


@app.command("opt-in")
def opt_in(speaker_id: SpeakerId, server: Server = LOCAL, as_json: Json = False) -> None:
    """Lets one who opted out enroll again.

    Example: sayso speakers opt-in 27-1182
    """
    with connect(server) as sayso:
        _print_speaker(sayso.speakers.opt_in(speaker_id), as_json=as_json)


@app.command("undo")
def undo_enrollment(speaker_id: SpeakerId, server: Server = LOCAL, as_json: Json = False) -> None:
    """Take back the latest enrollment.

    Example: sayso speakers undo 27-1182
    """
    with connect(server) as sayso:
        _print_speaker(sayso.speakers.undo(speaker_id), as_json=as_json)


@app.command("confirm")
def confirm_enrollment(
    speaker_id: SpeakerId, server: Server = LOCAL, as_json: Json = False
) -> None:
    """Releases an enrollment that waits for it.

    Example: sayso speakers confirm 27-1182
    """
    with connect(server) as sayso:
        _print_speaker(sayso.speakers.confirm(speaker_id), as_json=as_json)


@app.command("migrate")
def migrate(
    server: Server = LOCAL,
    status: Annotated[
        bool, typer.Option("--status", help="Count who has moved, and who has not.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the share of speakers who have moved to the model that the server now runs.

    They move by themselves, as calls of theirs are accepted.

    Example: sayso speakers migrate --status
    """
    if not status:
        raise typer.BadParameter("speakers move by themselves, in calls; ask for --status")
    with connect(server) as sayso:
        migration = sayso.speakers.migration()
    if as_json:
        print_json({**dataclasses.asdict(migration), "share": migration.share})
    else:
        out.print(_migration_table(migration))


@app.command("export")
def export_speaker(
    speaker_id: SpeakerId,
    server: Server = LOCAL,
    output: Annotated[
        typer.FileTextWrite, typer.Option(help="File to write; - for the screen.")
    ] = "-",  # type: ignore[assignment]
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the JSON on one line, without indentation.")
    ] = False,
) -> None:
    """Write all that is stored about a speaker as JSON: the answer to a request for access.

    Example: sayso speakers export 27-1182 --output 27-1182.json
    """
    with connect(server) as sayso:
        record = sayso.speakers.export(speaker_id)
    output.write(json.dumps(record, indent=None if as_json else 1, ensure_ascii=False) + "\n")


@app.command("unlock")
def unlock_speaker(speaker_id: SpeakerId, server: Server = LOCAL, as_json: Json = False) -> None:
    """Lifts the lock that failed verifications have put on a speaker.

    Example: sayso speakers unlock 27-1182
    """
    with connect(server) as sayso:
        sayso.speakers.unlock(speaker_id)
    if as_json:
        print_json({"speaker_id": speaker_id, "unlocked": True})
    else:
        say("unlocked")


@app.command("delete")
def delete_speaker(speaker_id: SpeakerId, server: Server = LOCAL, as_json: Json = False) -> None:
    """Erases a speaker and its voiceprints, and prints the audit entry of that.

    Example: sayso speakers delete 27-1182
    """
    with connect(server) as sayso:
        receipt = sayso.speakers.delete(speaker_id)
    if as_json:
        print_json({"speaker_id": speaker_id, **dataclasses.asdict(receipt)})
        return
    say(f"deleted {_format_date('', receipt.at)}")
    if receipt.audit_digest:
        say(f"subject {receipt.subject}")
        say(f"audit entry {receipt.audit_digest}")


def _parse_entries(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not key=value", param_hint="--metadata")
    return dict(pair.split("=", 1) for pair in pairs)


def _print_speaker(speaker: Speaker, *, as_json: bool) -> None:
    if as_json:
        print_json(speaker)
    else:
        out.print(_speaker_table(speaker))


def _speakers_table(speakers: Iterable[Speaker]) -> Table:
    table = Table("speaker", "state", "net speech", "still needed", "models", "metadata")
    for speaker in speakers:
        table.add_row(
            escape(speaker.speaker_id),
            speaker.state,
            f"{speaker.net_speech_s:.1f} s",
            f"{speaker.speech_needed_s:.1f} s",
            ", ".join(speaker.model_ids),
            escape(_format_metadata(speaker)),
        )
    return table


def _speaker_table(speaker: Speaker) -> Table:
    """One speaker in full, from top to bottom."""
    facts = {
        "speaker": speaker.speaker_id,
        "state": speaker.state,
        "net speech": f"{speaker.net_speech_s:.1f} s",
        "still needed": f"{speaker.speech_needed_s:.1f} s",
        "models": ", ".join(speaker.model_ids),
        "metadata": _format_metadata(speaker),
        "consent": _format_date(speaker.consent, speaker.consented_at),
        "opted out": _format_date("", speaker.opted_out_at),
        "expires": _format_date("", speaker.expires_at),
        "can be undone": f"{speaker.undo_levels} enrollments",
    }
    if (failed := speaker.failed_verifications) is not None:
        facts["failed"] = f"{failed.consecutive} in a row, {failed.total} since the last unlock"
        facts["locked"] = _describe_lock(failed)
    table = Table("", "", show_header=False)
    for name, value in facts.items():
        table.add_row(name, escape(value))
    return table


def _describe_lock(failed: FailedVerifications) -> str:
    if failed.disabled:
        return "disabled: `sayso speakers unlock` enables verification again"
    if failed.locked_until is None or failed.locked_until <= datetime.now(UTC):
        return "no"
    return _format_date("until", failed.locked_until)


def _migration_table(migration: Migration) -> Table:
    table = Table("speakers", "", "compared by", title=f"{migration.share:.1%} have moved")
    previous = migration.previous_model_id or "none is loaded"
    for name, count, model_id in (
        ("moved", migration.moved, migration.model_id),
        ("waiting", migration.waiting, previous),
        ("of them begun", migration.begun, previous),
        ("have to enroll again", migration.stranded, "none that is loaded"),
    ):
        table.add_row(name, str(count), escape(model_id))
    return table


def _format_metadata(speaker: Speaker) -> str:
    return ", ".join(f"{key}={value}" for key, value in speaker.metadata.items())


def _format_date(text: str | None, at: datetime | None) -> str:
    return f"{text or ''} {at:%Y-%m-%d %H:%M} UTC".strip() if at else ""
