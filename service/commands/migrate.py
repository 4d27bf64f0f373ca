"""`sayso migrate`: enroll again, from recordings, who was enrolled at another service."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sayso import BatchItem, Client, Duplicates, NotFound

from service.commands import batch, voice_id_job
from service.commands.batch import Results
from service.commands.manifest import Row
from service.commands.options import LOCAL, Consent, Server, Watchlists, connect
from service.commands.terminal import Json, out, print_json, say, warn
from service.commands.voice_id_job import Folders, Job

app = typer.Typer(
    help="Enroll again, from recordings, who was enrolled at another service.",
    no_args_is_help=True,
)

_MAX_FILE_BYTES = 20 * 2**20
"""What Voice ID took; how much of it the server takes is the server's to say."""

_WITH_A_VOICE = ("ENROLLED", "UNCONFIRMED", "WITHOUT_CONSENT")


class Existing(StrEnum):
    """What to do with a speaker who is enrolled already, as Voice ID's job spells it."""

    SKIP = "SKIP"
    OVERWRITE = "OVERWRITE"


@app.callback()
def _migrate() -> None:
    """Enroll again, from recordings, who was enrolled at another service."""


@app.command("voiceid")
def migrate_voice_id(
    manifest: Annotated[
        Path,
        typer.Argument(
            help="The input document of a speaker enrollment job or a fraudster registration job.",
            exists=True,
            dir_okay=False,
        ),
    ],
    recordings: Annotated[
        Path,
        typer.Option(
            help="The folder with what the bucket holds: s3://bucket/a/1.wav is a/1.wav in it.",
            exists=True,
            file_okay=False,
        ),
    ],
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="s3://bucket/prefix=folder: where else a part of S3 lies; may be repeated.",
        ),
    ] = None,
    existing: Annotated[
        Existing,
        typer.Option(
            case_sensitive=False,
            help="What to do with a speaker who is enrolled: leave the voice as it is, or replace "
            "it.",
        ),
    ] = Existing.SKIP,
    group: Annotated[
        str | None,
        typer.Option(help="For fraudsters: the group that they join; made if it is missing."),
    ] = None,
    fraudster_prefix: Annotated[
        str, typer.Option(help="For fraudsters: their speaker ids are this and the request's id.")
    ] = "fraudster-",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the document, look for its files, and stop.")
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            help="What came of each recording: a JSON Lines file, by which a run goes on where "
            "the last one ended. [the manifest's name with .results.jsonl]"
        ),
    ] = None,
    server: Server = LOCAL,
    consent: Consent = None,
    duplicates: Annotated[
        Duplicates | None,
        typer.Option(help="What to do with a voice enrolled under another id. [the server's]"),
    ] = None,
    watchlist: Watchlists = None,
    as_json: Json = False,
) -> None:
    """Enrolls the speakers, or fraudsters, of a Voice ID job from a copy of its recordings.

    Exit status 0 when every recording is enrolled or skipped, by this run or an earlier one; the
    same command goes on with those that are not. With --dry-run, 0 when every file is there.

    Example: sayso migrate voiceid job.json --recordings copy/ --dry-run
    """
    default = BatchItem(
        "", b"", consent=consent, duplicates=duplicates, watchlists=tuple(watchlist or ())
    )
    folders = Folders(recordings, maps or ())
    job = voice_id_job.read(manifest, folders, default, fraudster_prefix=fraudster_prefix)
    if job.fraudsters and not group and not dry_run:
        raise typer.BadParameter("name the group that the fraudsters join", param_hint="--group")
    if not job.fraudsters and group:
        raise typer.BadParameter("is for a fraudster registration job", param_hint="--group")
    if dry_run:
        _rehearse(job, as_json=as_json)
        return
    file = results or manifest.with_suffix(".results.jsonl")
    with connect(server) as sayso, Results(file) as outcomes:
        if group:
            _ensure_group(sayso, group)
        before = sum(map(outcomes.is_enrolled, job.rows))
        try:
            skipped = _enroll(sayso, job, outcomes, existing, as_json=as_json)
        except KeyboardInterrupt:
            warn(f"interrupted: the same command goes on with what {file} does not list yet")
            raise
        if group:
            joined = _list_speakers(job.rows, outcomes.is_enrolled)
            sayso.groups.add_members(group, sorted(joined))
        failures = outcomes.list_failures(job.rows)
        enrolled = sum(map(outcomes.is_enrolled, job.rows)) - before
    if failures and not as_json:
        out.print(batch.make_failures_table(failures, file))
    _sum_up(
        {"enrolled": enrolled, "before": before, "skipped": skipped, "not": len(failures)},
        as_json=as_json,
    )
    if failures:
        raise typer.Exit(1)


def _rehearse(job: Job, *, as_json: bool) -> None:
    """Say what a run would find; exit status 1 if files are missing."""
    files = [(row.path, Path(str(row.item.audio))) for row in job.rows]
    missing = [(uri, file) for uri, file in files if not file.is_file()]
    for uri, file in missing:
        if as_json:
            print_json({"path": uri, "file": file, "status": "missing"})
        else:
            warn(f"{uri}: there is no file {file}")
    who = "fraudsters" if job.fraudsters else "speakers"
    line = f"{len(job.speaker_ids)} {who}, {len(job.rows)} recordings, {len(missing)} files missing"
    (warn if as_json else say)(f"{line}; nothing was sent")
    if missing:
        raise typer.Exit(1)


def _ensure_group(sayso: Client, name: str) -> None:
    try:
        sayso.groups.get(name)
    except NotFound:
        sayso.groups.create(name, "fraudsters of a Voice ID watchlist")


def _enroll(
    sayso: Client, job: Job, outcomes: Results, existing: Existing, *, as_json: bool
) -> int:
    """Enroll what is not enrolled yet, one recording of each speaker at a time, since only the
    first that is stored may replace the voice; returns how many were skipped."""
    rows, skipped = [], 0
    reasons = _find_reasons(sayso, existing, _list_speakers(job.rows, outcomes.is_sent))
    for row in outcomes.list_missing(job.rows):
        if (why := reasons.get(row.item.speaker_id)) is None:
            rows.append(row)
        else:
            _show(outcomes.skip(row, why), as_json=as_json)
            skipped += 1
    for turn in _take_turns(rows):
        if existing is Existing.OVERWRITE:
            stored = _list_speakers(job.rows, outcomes.is_enrolled)
            turn = [row if row.item.speaker_id in stored else row.replacing() for row in turn]  # noqa: PLW2901
        for row, result in batch.send(
            sayso, turn, outcomes.note_sent, max_item_bytes=_MAX_FILE_BYTES
        ):
            _show(outcomes.add(row, result), as_json=as_json)
    return skipped


def _find_reasons(sayso: Client, existing: Existing, begun: set[str]) -> dict[str, str]:
    """Why speakers are not enrolled, by id; those whom an earlier run has `begun` are."""
    states = ["OPTED_OUT", *(_WITH_A_VOICE if existing is Existing.SKIP else ())]
    return {
        speaker.speaker_id: (
            "the speaker opted out"
            if speaker.state == "OPTED_OUT"
            else "the speaker is enrolled already"
        )
        for speaker in sayso.speakers.list(states=states, page_size=1000)
        if speaker.state == "OPTED_OUT" or speaker.speaker_id not in begun
    }


def _list_speakers(rows: Iterable[Row], chosen: Callable[[Row], bool]) -> set[str]:
    return {row.item.speaker_id for row in rows if chosen(row)}


def _take_turns(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the first recording of each speaker, then the second of each, and so on."""
    turns: list[list[Row]] = []
    counts: dict[str, int] = {}
    for row in rows:
        turn = counts.get(row.item.speaker_id, 0)
        counts[row.item.speaker_id] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(row)
    yield from turns


def _show(outcome: batch.Outcome, *, as_json: bool) -> None:
    if as_json:
        print_json(outcome)


def _sum_up(counts: dict[str, int], *, as_json: bool) -> None:
    line = (
        f"{counts['enrolled']} recordings enrolled, {counts['before']} before, "
        f"{counts['skipped']} skipped"
    )
    trouble = f"; {counts['not']} were not, and are tried again by the next run"
    (warn if as_json else say)(line + (trouble if counts["not"] else ""))
