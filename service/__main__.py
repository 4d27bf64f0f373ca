"""`sayso`: run the server, and talk to one from the command line."""

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from service import models
from service.client import Client, Decision, Duplicates, Match, RawAudio, Speaker
from service.errors import ModelError, SaysoError
from service.session import Session
from service.settings import Settings

app = typer.Typer(
    help="Voice verification: enrol a voice, then ask whether a caller is that voice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
speakers_app = typer.Typer(help="List, show, change and delete speakers.", no_args_is_help=True)
app.add_typer(speakers_app, name="speakers")
models_app = typer.Typer(help="List, show and verify model files.", no_args_is_help=True)
app.add_typer(models_app, name="models")
groups_app = typer.Typer(help="Make groups of speakers, for identify.", no_args_is_help=True)
app.add_typer(groups_app, name="groups")

out = Console()
err = Console(stderr=True)

Server = Annotated[
    str, typer.Option("--server", envvar="SAYSO_SERVER", help="The server's host:port.")
]
SpeakerId = Annotated[str, typer.Argument(help="Your own id for the speaker, 1 to 128 characters.")]
SpeakerIds = Annotated[list[str], typer.Argument(help="Ids of speakers.")]
GroupName = Annotated[str, typer.Argument(help="The group's name, 1 to 64 characters.")]
Recordings = Annotated[
    list[Path],
    typer.Argument(help="WAV, FLAC or Ogg files; raw samples with --encoding.", exists=True),
]
EncodingOption = Annotated[
    Literal["LINEAR16", "MULAW", "ALAW"] | None,
    typer.Option(help="For raw samples without a header: how they are encoded."),
]
Rate = Annotated[int, typer.Option(help="For raw samples: hertz, 8000 to 48000.")]
ChannelOption = Annotated[int, typer.Option(help="The speaker's channel, from 0.", min=0, max=1)]
Consent = Annotated[
    str | None, typer.Option(help="Your own reference to the speaker's consent, given now.")
]

ModelFile = Annotated[Path, typer.Argument(help="Contract model file (.onnx).")]
ModelFolder = Annotated[
    Path | None, typer.Argument(help="A folder of model files. [that of SAYSO_MODEL]")
]

LOCAL = "127.0.0.1:50051"


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """An error the user can act on is one line on stderr and exit status 2."""
    try:
        yield
    except SaysoError as error:
        err.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


@app.command()
def serve(
    listen: Annotated[
        str | None,
        typer.Option(help="host:port; port 0 picks a free one. [SAYSO_LISTEN, 127.0.0.1:50051]"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Contract model file. [SAYSO_MODEL, the shipped model]")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="sqlite:///file or redis://host:port/db. [SAYSO_STORE, sayso.db]"),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Where inference runs. [SAYSO_DEVICE, auto: CUDA when it is there]"),
    ] = None,
) -> None:
    """Runs the server until SIGTERM or SIGINT, then finishes the calls in flight.

    Every other setting is an environment variable; `sayso info` lists them all.
    """
    with _one_line_errors():
        settings = Settings.read(listen=listen, model=model, store=store, device=device)
        logging.basicConfig(
            level=settings.log_level.upper(),
            stream=sys.stderr,
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from service.server import serving  # noqa: PLC0415 - the client commands start without it

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as running:
        out.print(f"serving on {running.address}", highlight=False)
        sys.stdout.flush()
        await stop.wait()


@app.command()
def enroll(
    speaker_id: SpeakerId,
    recordings: Recordings,
    server: Server = LOCAL,
    encoding: EncodingOption = None,
    sample_rate: Rate = 8000,
    channel: ChannelOption = 0,
    replace: Annotated[
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
) -> None:
    """Enrols a speaker from recordings, or adds them to what is enrolled.

    Exit status 0 when every recording was added and no more speech is needed.
    """
    raw = RawAudio(encoding, sample_rate) if encoding else None
    with _one_line_errors(), Client(server) as sayso:
        needed_s, refused = 0.0, False
        for index, path in enumerate(track(recordings, "enrolling", console=err, transient=True)):
            done = sayso.enroll(
                speaker_id,
                path,
                raw=raw,
                channel=channel,
                replace=replace and index == 0,
                consent=consent,
                require_confirmation=confirm,
                duplicates=duplicates,
            )
            needed_s, refused = done.speech_needed_s, refused or not done.stored
            out.print(
                f"{path.name}: {done.explanation}; {done.net_speech_s:.1f} s of net speech in all",
                highlight=False,
            )
    if needed_s > 0 or refused:
        raise typer.Exit(1)


@app.command()
def verify(
    speaker_id: SpeakerId,
    recordings: Recordings,
    server: Server = LOCAL,
    encoding: EncodingOption = None,
    sample_rate: Rate = 8000,
    channel: ChannelOption = 0,
    target_false_match_rate: Annotated[
        float | None,
        typer.Option(help="Accept this share of other speakers, e.g. 0.01. [the server's]"),
    ] = None,
) -> None:
    """Decides whether recordings are the enrolled voice; exit status 0 when all are accepted.

    LLR is the natural log of how much likelier the audio is from this speaker than from another.
    """
    raw = RawAudio(encoding, sample_rate) if encoding else None
    with _one_line_errors(), Client(server) as sayso:
        decisions = [
            sayso.verify(
                speaker_id,
                path,
                raw=raw,
                channel=channel,
                target_false_match_rate=target_false_match_rate,
            )
            for path in track(recordings, "verifying", console=err, transient=True)
        ]
    out.print(_decisions_table([path.name for path in recordings], decisions))
    if not all(decision.accepted for decision in decisions):
        raise typer.Exit(1)


@app.command()
def identify(
    group: GroupName,
    recordings: Recordings,
    server: Server = LOCAL,
    encoding: EncodingOption = None,
    sample_rate: Rate = 8000,
    channel: ChannelOption = 0,
    candidates: Annotated[int, typer.Option(help="How many to show.", min=1, max=100)] = 3,
    target_false_match_rate: Annotated[
        float | None,
        typer.Option(help="Take this share of strangers for a member, e.g. 0.01. [the server's]"),
    ] = None,
) -> None:
    """Finds who of a group is speaking; exit status 0 when every recording is of a member."""
    raw = RawAudio(encoding, sample_rate) if encoding else None
    with _one_line_errors(), Client(server) as sayso:
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
        numbers = (made.llr, made.threshold_llr, made.cosine)
        scores = ("" if number is None else f"{number:.2f}" for number in numbers)
        row = [name, made.outcome, *scores, f"{made.net_speech_s:.1f} s", made.explanation]
        if candidates is not None:
            row.append("\n".join(f"{at.speaker_id} {at.llr:.2f}" for at in candidates[index]))
        table.add_row(*map(escape, row))
    return table


@groups_app.command("create")
def create_group(
    name: GroupName,
    server: Server = LOCAL,
    description: Annotated[str, typer.Option(help="For people, at most 256 characters.")] = "",
) -> None:
    """Makes an empty group."""
    with _one_line_errors(), Client(server) as sayso:
        sayso.create_group(name, description)
    out.print("created", highlight=False)


@groups_app.command("list")
def list_groups(server: Server = LOCAL) -> None:
    """Lists the groups, in the order of their names."""
    table = Table("group", "members", "description")
    with _one_line_errors(), Client(server) as sayso:
        for group in sayso.groups():
            table.add_row(escape(group.name), str(group.members), escape(group.description))
    out.print(table)


@groups_app.command("delete")
def delete_group(name: GroupName, server: Server = LOCAL) -> None:
    """Removes a group; its speakers stay enrolled."""
    with _one_line_errors(), Client(server) as sayso:
        sayso.delete_group(name)
    out.print("deleted", highlight=False)


@groups_app.command("add")
def add_members(name: GroupName, speaker_ids: SpeakerIds, server: Server = LOCAL) -> None:
    """Adds enrolled speakers to a group."""
    with _one_line_errors(), Client(server) as sayso:
        sayso.add_members(name, speaker_ids)
    out.print("added", highlight=False)


@groups_app.command("remove")
def remove_members(name: GroupName, speaker_ids: SpeakerIds, server: Server = LOCAL) -> None:
    """Takes speakers out of a group; they stay enrolled."""
    with _one_line_errors(), Client(server) as sayso:
        sayso.remove_members(name, speaker_ids)
    out.print("removed", highlight=False)


@groups_app.command("members")
def list_members(name: GroupName, server: Server = LOCAL) -> None:
    """Prints the ids of a group's speakers, one a line."""
    with _one_line_errors(), Client(server) as sayso:
        for speaker_id in sayso.members(name):
            out.print(escape(speaker_id), highlight=False, soft_wrap=True)


@speakers_app.command("list")
def list_speakers(server: Server = LOCAL) -> None:
    """Lists every enrolled speaker, in the order of their ids."""
    with _one_line_errors(), Client(server) as sayso:
        out.print(_speakers_table(sayso.list()))


@speakers_app.command("show")
def show_speaker(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Shows what is known of one speaker; never its vectors."""
    with _one_line_errors(), Client(server) as sayso:
        out.print(_speaker_table(sayso.get(speaker_id)))


@speakers_app.command("update")
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
    entries = _entries(metadata) if metadata else None
    with _one_line_errors(), Client(server) as sayso:
        updated = sayso.update(speaker_id, metadata=entries, consent=consent)
    out.print(_speaker_table(updated))


@speakers_app.command("opt-out")
def opt_out(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Erases a speaker's voice at once and refuses to enrol it again."""
    with _one_line_errors(), Client(server) as sayso:
        out.print(_speaker_table(sayso.opt_out(speaker_id)))


@speakers_app.command("opt-in")
def opt_in(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Lets one who opted out enrol again."""
    with _one_line_errors(), Client(server) as sayso:
        out.print(_speaker_table(sayso.opt_in(speaker_id)))


@speakers_app.command("undo")
def undo_enrollment(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Takes back the latest enrolment."""
    with _one_line_errors(), Client(server) as sayso:
        out.print(_speaker_table(sayso.undo(speaker_id)))


@speakers_app.command("confirm")
def confirm_enrollment(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Releases an enrolment that waits for it."""
    with _one_line_errors(), Client(server) as sayso:
        out.print(_speaker_table(sayso.confirm(speaker_id)))


@speakers_app.command("delete")
def delete_speaker(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Erases a speaker and its voiceprints."""
    with _one_line_errors(), Client(server) as sayso:
        sayso.delete(speaker_id)
    out.print("deleted", highlight=False)


def _entries(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not key=value", param_hint="--metadata")
    return dict(pair.split("=", 1) for pair in pairs)


def _speakers_table(speakers: "Iterator[Speaker] | list[Speaker]") -> Table:
    table = Table("speaker", "state", "net speech", "still needed", "models", "metadata")
    for speaker in speakers:
        table.add_row(
            speaker.speaker_id,
            speaker.state,
            f"{speaker.net_speech_s:.1f} s",
            f"{speaker.speech_needed_s:.1f} s",
            ", ".join(speaker.model_ids),
            _metadata(speaker),
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
        "metadata": _metadata(speaker),
        "consent": _dated(speaker.consent, speaker.consented_at),
        "opted out": _dated("", speaker.opted_out_at),
        "expires": _dated("", speaker.expires_at),
        "can be undone": f"{speaker.undo_levels} enrolments",
    }
    table = Table("", "", show_header=False)
    for name, value in facts.items():
        table.add_row(name, escape(value))
    return table


def _metadata(speaker: Speaker) -> str:
    return ", ".join(f"{key}={value}" for key, value in speaker.metadata.items())


def _dated(text: str | None, at: datetime | None) -> str:
    return f"{text or ''} {at:%Y-%m-%d %H:%M} UTC".strip() if at else ""


@models_app.command("list")
def list_models(folder: ModelFolder = None) -> None:
    """Lists the model files of a folder: contract, digest, size, and speed on this machine.

    Speed is seconds of audio embedded in one second, one window at a time.
    """
    table = Table("file", "model id", "rate", "window", "size", "speed", "digest")
    broken = False
    with _one_line_errors():
        paths = models.installed(folder or Settings.read().model.parent)
    for path in track(paths, "loading", console=err, transient=True):
        try:
            found = models.inspect(path)
        except ModelError as error:
            broken = True
            table.add_row(path.name, f"[red]{escape(str(error))}[/red]")
            continue
        contract = found.contract
        table.add_row(
            path.name,
            contract.model_id,
            f"{contract.sample_rate} Hz",
            f"{contract.window_s:g} s",
            f"{found.size_bytes / 1e6:.1f} MB",
            f"{found.speed:.0f} x",
            f"{found.sha256[:12]}{'' if found.signed else ' (unsigned)'}",
        )
    out.print(table)
    if broken:
        raise typer.Exit(1)


@models_app.command("show")
def show_model(model: ModelFile) -> None:
    """Prints a model's whole contract as JSON."""
    with _one_line_errors():
        contract = models.inspect(model).contract
    out.print_json(next(iter(contract.to_metadata().values())))


@models_app.command("verify")
def verify_model(model: ModelFile) -> None:
    """Loads a model as the server would; exit status 0 when it has a digest beside it and holds."""
    with _one_line_errors():
        found = models.inspect(model)
    if not found.signed:
        err.print(f"{model.name} loads, but there is no {model.name}.sha256 to check it against")
        raise typer.Exit(1)
    out.print(f"{model.name}: {found.contract.model_id}, sha256 {found.sha256}", highlight=False)


@app.command()
def health(server: Server = LOCAL) -> None:
    """Exit status 0 when the server is ready: model loaded and store reachable."""
    with Client(server, timeout_s=5.0) as sayso:
        ready = sayso.ready()
    out.print("ready" if ready else "not ready", highlight=False)
    raise typer.Exit(0 if ready else 1)


@app.command()
def info(
    model: Annotated[
        Path | None, typer.Option(help="Contract model file. [SAYSO_MODEL, the shipped model]")
    ] = None,
) -> None:
    """Shows the model, the inference provider in use, and every setting with its value."""
    with _one_line_errors():
        settings = Settings.read(model=model)
        session = Session.open(settings.model, device=settings.device, threads=settings.threads)
    facts = Table("", "", title="model", show_header=False)
    for name, value in session.describe().items():
        facts.add_row(name, str(value))
    out.print(facts)
    values = Table("variable", "value", "meaning", title="settings")
    for name, field in Settings.model_fields.items():
        values.add_row(f"SAYSO_{name.upper()}", str(getattr(settings, name)), field.description)
    out.print(values)


if __name__ == "__main__":
    app()
