"""`sayso speakers`: who is enrolled, and every change to one of them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from sayso import FailedVerifications, Migration, Speaker

from service.commands.options import LOCAL, Consent, Server, SpeakerId, connect
from service.commands.terminal import out

app = typer.Typer(help="List, show, change and delete speakers.", no_args_is_help=True)


@app.command("list")
def list_speakers(server: Server = LOCAL) -> None:
    """Lists every enrolled speaker, in the order of their ids."""
    with connect(server) as sayso:
        out.print(_speakers_table(sayso.speakers.list()))


@app.command("show")
def show_speaker(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Shows one speaker, but never its vectors."""
    with connect(server) as sayso:
        out.print(_speaker_table(sayso.speakers.get(speaker_id)))


@app.command("update")
def update_speaker(
    speaker_id: SpeakerId,
    server: Server = LOCAL,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="key=value; once for each entry. Replaces what there is."),
    ] = None,
    consent: Consent = None,
) -> None:
    """Changes a speaker's metadata, consent, or both."""
    entries = _parse_entries(metadata) if metadata else None
    with connect(server) as sayso:
        updated = sayso.speakers.update(speaker_id, metadata=entries, consent=consent)
    out.print(_speaker_table(updated))


@app.command("withdraw-consent")
def withdraw_consent(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Stops all use of a speaker's voice until a consent is recorded again."""
    with connect(server) as sayso:
        out.print(_speaker_table(sayso.speakers.withdraw_consent(speaker_id)))


@app.command("opt-out")
def opt_out(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Erases a speaker's voice at once and refuses to enroll it again."""
    with connect(server) as sayso:
        out.print(_speaker_table(sayso.speakers.opt_out(speaker_id)))


@app.command("opt-in")
def opt_in(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Lets one who opted out enroll again."""
    with connect(server) as sayso:
        out.print(_speaker_table(sayso.speakers.opt_in(speaker_id)))


@app.command("undo")
def undo_enrollment(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Takes back the latest enrollment."""
    with connect(server) as sayso:
        out.print(_speaker_table(sayso.speakers.undo(speaker_id)))


@app.command("confirm")
def confirm_enrollment(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Releases an enrollment that waits for it."""
    with connect(server) as sayso:
        out.print(_speaker_table(sayso.speakers.confirm(speaker_id)))


@app.command("migrate")
def migrate(
    server: Server = LOCAL,
    status: Annotated[
        bool, typer.Option("--status", help="Count who has moved, and who has not.")
    ] = False,
) -> None:
    """Shows the share of speakers who have moved to the model that the server now runs.

    They move by themselves, as calls of theirs are accepted.
    """
    if not status:
        raise typer.BadParameter("speakers move by themselves, in calls; ask for --status")
    with connect(server) as sayso:
        out.print(_migration_table(sayso.speakers.migration()))


@app.command("export")
def export_speaker(
    speaker_id: SpeakerId,
    server: Server = LOCAL,
    output: Annotated[
        typer.FileTextWrite, typer.Option(help="File to write; - for the screen.")
    ] = "-",  # type: ignore[assignment]
) -> None:
    """Writes all that is stored about a speaker as JSON: the answer to a request for access."""
    with connect(server) as sayso:
        record = sayso.speakers.export(speaker_id)
    output.write(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


@app.command("unlock")
def unlock_speaker(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Lifts the lock that failed verifications have put on a speaker."""
    with connect(server) as sayso:
        sayso.speakers.unlock(speaker_id)
    out.print("unlocked", highlight=False)


@app.command("delete")
def delete_speaker(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Erases a speaker and its voiceprints, and prints the audit entry of that."""
    with connect(server) as sayso:
        receipt = sayso.speakers.delete(speaker_id)
    out.print(f"deleted {_format_date('', receipt.at)}", highlight=False)
    if receipt.audit_digest:
        out.print(f"subject {receipt.subject}", highlight=False, soft_wrap=True)
        out.print(f"audit entry {receipt.audit_digest}", highlight=False, soft_wrap=True)


def _parse_entries(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not key=value", param_hint="--metadata")
    return dict(pair.split("=", 1) for pair in pairs)


def _speakers_table(speakers: Iterable[Speaker]) -> Table:
    table = Table("speaker", "state", "net speech", "still needed", "models", "metadata")
    for speaker in speakers:
        table.add_row(
            speaker.speaker_id,
            speaker.state,
            f"{speaker.net_speech_s:.1f} s",
            f"{speaker.speech_needed_s:.1f} s",
            ", ".join(speaker.model_ids),
            _format_metadata(speaker),
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
