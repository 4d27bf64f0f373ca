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
from service.commands.terminal import (
    Json,
    for_each,
    list_fields,
    print_json,
    print_matches,
    say,
    warn,
)


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
    request_id: Annotated[
        str,
        typer.Option(
            help="Your own name of this enrollment, e.g. a UUID: asked again with it after a lost "
            "answer, the server adds nothing twice. For one recording.",
            show_default=False,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Enrolls a speaker from recordings, or adds them to what is enrolled.

    Exit status 0 when every recording was added and no more speech is needed, or when every
    recording of the manifest is enrolled, by this run or an earlier one.

    Example: sayso enroll 27-1182 call-1.wav call-2.wav --consent form-881
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
        request_id=request_id,
    )
    if request_id and (manifest is not None or len(recordings or ()) > 1):
        raise typer.BadParameter("names one recording", param_hint="--request-id")
    if manifest is not None:
        if speaker_id is not None or replacing or stop_when_complete:
            raise typer.BadParameter(
                "goes without speaker, --replace and --stop-when-complete", param_hint="--manifest"
            )
        batch.enroll(
            manifest, item, sample_rate=sample_rate, results=results, server=server, as_json=as_json
        )
    elif speaker_id is None or not recordings:
        raise typer.BadParameter("name a speaker and recordings, or a --manifest")
    else:
        _enroll(item, recordings, server, stop_when_complete=stop_when_complete, as_json=as_json)


def _enroll(
    item: BatchItem,
    recordings: list[Path],
    server: str,
    *,
    stop_when_complete: bool,
    as_json: bool,
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
                request_id=item.request_id,
            )

        for path, done in for_each(recordings, "enrolling", ask):
            _print_result(path, done, as_json=as_json)
            if isinstance(done, InvalidArgument):
                unread = True
                continue
            needed_s, refused = done.speech_needed_s, refused or not done.stored
            replacing = replacing and not done.stored
            if stop_when_complete and needed_s == 0:
                break
    if unread:
        raise typer.Exit(2)
    if needed_s > 0 or refused:
        raise typer.Exit(1)


def _print_result(path: Path, result: Enrollment | InvalidArgument, *, as_json: bool) -> None:
    if as_json:
        print_json({"recording": path, **list_fields(result)})
    elif isinstance(result, InvalidArgument):
        warn(f"{path.name}: not read: {result}")
    else:
        in_all = f"{result.net_speech_s:.1f} s of net speech in all"
        say(f"{path.name}: {result.explanation}; {in_all}")
        print_matches(path.name, result.watchlist_matches)
