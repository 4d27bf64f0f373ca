"""`sayso enroll`: one speaker's recordings, or those of a manifest."""

from pathlib import Path
from typing import Annotated

import typer
from sayso import BatchItem, Duplicates, Enrollment, InvalidArgument, RawAudio

from service.commands import batch
from service.commands.options import (
    LOCAL,
    ChannelOption,
    Consent,
    EncodingOption,
    OptionalRecordings,
    OptionalSpeakerId,
    Rate,
    Server,
    Watchlists,
    connect,
    parse_raw_audio,
)
from service.commands.terminal import err, for_each, out, print_matches


def enroll(
    speaker_id: OptionalSpeakerId = None,
    recordings: OptionalRecordings = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Instead of both: a CSV file with the columns speaker_id,path and, where they "
            "differ, consent,channel,encoding,sample_rate.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="What came of each recording of the manifest: a JSON Lines file, by which a run "
            "goes on where the last one ended. [the manifest's name with .results.jsonl]"
        ),
    ] = None,
    server: Server = LOCAL,
    encoding: EncodingOption = None,
    sample_rate: Rate = None,
    channel: ChannelOption = None,
    replacing: Annotated[
        bool, typer.Option("--replace", help="Forget what was enrolled before.")
    ] = False,
    consent: Consent = None,
    duplicates: Annotated[
        Duplicates | None,
        typer.Option(help="What to do with a voice enrolled under another id. [the server's]"),
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Ask for `speakers confirm` before first use.")
    ] = False,
    watchlist: Watchlists = None,
    stop_when_complete: Annotated[
        bool, typer.Option("--stop-when-complete", help="Send no more than is needed.")
    ] = False,
) -> None:
    """Enrols a speaker from recordings, or adds them to what is enrolled.

    Exit status 0 when every recording was added and no more speech is needed, or when every
    recording of the manifest is enrolled, by this run or an earlier one.
    """
    if manifest is None:
        raw = parse_raw_audio(encoding, sample_rate)
    else:  # whose rows may have rates of their own
        raw = RawAudio(encoding, sample_rate or 0) if encoding else None
    item = BatchItem(
        speaker_id or "",
        b"",
        raw=raw,
        channel=channel,
        replace=replacing,
        consent=consent,
        require_confirmation=confirm,
        duplicates=duplicates,
        watchlists=tuple(watchlist or ()),
    )
    if manifest is not None:
        if speaker_id is not None or replacing or stop_when_complete:
            raise typer.BadParameter(
                "goes without speaker, --replace and --stop-when-complete", param_hint="--manifest"
            )
        batch.enroll(manifest, item, sample_rate=sample_rate, results=results, server=server)
    elif speaker_id is None or not recordings:
        raise typer.BadParameter("name a speaker and recordings, or a --manifest")
    else:
        _enroll(item, recordings, server, stop_when_complete=stop_when_complete)


def _enroll(
    item: BatchItem, recordings: list[Path], server: str, *, stop_when_complete: bool
) -> None:
    needed_s, refused, unread, replacing = 0.0, False, False, item.replace
    with connect(server) as sayso:

        def ask(path: Path) -> Enrollment:
            return sayso.enroll(
                item.speaker_id,
                path,
                raw=item.raw,
                channel=item.channel,
                replace=replacing,
                consent=item.consent,
                require_confirmation=item.require_confirmation,
                duplicates=item.duplicates,
                watchlists=item.watchlists,
                stop_when_complete=stop_when_complete,
            )

        for path, done in for_each(recordings, "enrolling", ask):
            if isinstance(done, InvalidArgument):
                unread = True
                err.print(f"{path.name}: not read: {done}", highlight=False, markup=False)
                continue
            needed_s, refused = done.speech_needed_s, refused or not done.stored
            replacing = replacing and not done.stored
            out.print(
                f"{path.name}: {done.explanation}; {done.net_speech_s:.1f} s of net speech in all",
                highlight=False,
            )
            print_matches(path.name, done.watchlist_matches)
            if stop_when_complete and needed_s == 0:
                break
    if unread:
        raise typer.Exit(2)
    if needed_s > 0 or refused:
        raise typer.Exit(1)
