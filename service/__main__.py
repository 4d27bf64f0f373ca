"""`sayso`: run the server, and talk to one from the command line."""

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from service import models
from service.client import Client, Decision, RawAudio, Speaker
from service.errors import ModelError, SaysoError
from service.session import Session
from service.settings import Settings

app = typer.Typer(
    help="Voice verification: enrol a voice, then ask whether a caller is that voice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
speakers_app = typer.Typer(help="List, show and delete enrolled speakers.", no_args_is_help=True)
app.add_typer(speakers_app, name="speakers")
models_app = typer.Typer(help="List, show and verify model files.", no_args_is_help=True)
app.add_typer(models_app, name="models")

out = Console()
err = Console(stderr=True)

Server = Annotated[
    str, typer.Option("--server", envvar="SAYSO_SERVER", help="The server's host:port.")
]
SpeakerId = Annotated[str, typer.Argument(help="Your own id for the speaker, 1 to 128 characters.")]
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
) -> None:
    """Enrols a speaker from recordings, or adds them to what is enrolled."""
    raw = RawAudio(encoding, sample_rate) if encoding else None
    with _one_line_errors(), Client(server) as sayso:
        needed_s = 0.0
        for index, path in enumerate(track(recordings, "enrolling", console=err, transient=True)):
            done = sayso.enroll(
                speaker_id, path, raw=raw, channel=channel, replace=replace and index == 0
            )
            needed_s = done.speech_needed_s
            out.print(
                f"{path.name}: {done.explanation}; {done.net_speech_s:.1f} s of net speech in all",
                highlight=False,
            )
    if needed_s > 0:
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


def _decisions_table(names: list[str], decisions: list[Decision]) -> Table:
    table = Table("recording", "decision", "LLR", "threshold", "cosine", "net speech", "why")
    for name, made in zip(names, decisions, strict=True):
        numbers = (made.llr, made.threshold_llr, made.cosine)
        scores = ("" if number is None else f"{number:.2f}" for number in numbers)
        table.add_row(name, made.outcome, *scores, f"{made.net_speech_s:.1f} s", made.explanation)
    return table


@speakers_app.command("list")
def list_speakers(server: Server = LOCAL) -> None:
    """Lists every enrolled speaker, in the order of their ids."""
    with _one_line_errors(), Client(server) as sayso:
        out.print(_speakers_table(sayso.list()))


@speakers_app.command("show")
def show_speaker(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Shows what is known of one speaker; never its vectors."""
    with _one_line_errors(), Client(server) as sayso:
        out.print(_speakers_table([sayso.get(speaker_id)]))


@speakers_app.command("delete")
def delete_speaker(speaker_id: SpeakerId, server: Server = LOCAL) -> None:
    """Erases a speaker and its voiceprints."""
    with _one_line_errors(), Client(server) as sayso:
        sayso.delete(speaker_id)
    out.print("deleted", highlight=False)


def _speakers_table(speakers: "Iterator[Speaker] | list[Speaker]") -> Table:
    table = Table("speaker", "state", "net speech", "still needed", "models", "metadata")
    for speaker in speakers:
        table.add_row(
            speaker.speaker_id,
            speaker.state,
            f"{speaker.net_speech_s:.1f} s",
            f"{speaker.speech_needed_s:.1f} s",
            ", ".join(speaker.model_ids),
            ", ".join(f"{key}={value}" for key, value in speaker.metadata.items()),
        )
    return table


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
