"""Run a server of its own on a new store, enroll every voice, and try every call on it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from sayso import Client, Decision, SaysoError

from service.commands.demo.report import (
    STYLES,
    Result,
    describe_threshold,
    list_result,
    make_table,
    summarize,
)
from service.commands.demo.voices import Trial, Voice, make_trials, read_voices
from service.commands.terminal import Json, err, one_line_errors, out, print_json, say, warn
from service.errors import SettingsError, StartupError

SHIPPED = Path(__file__).resolve().parents[3] / "demo" / "audio"
"""Made voices, which the wheel has too."""

_STOP_S = 30
_SETTINGS = frozenset({"SAYSO_MODEL", "SAYSO_DEVICE", "SAYSO_THREADS", "SAYSO_ALLOW_UNCALIBRATED"})
"""What the demo's server takes from the environment; a real server's store, keys and audit trail
are not the demo's."""

_show_progress = partial(track, console=err, transient=True, disable=not err.is_terminal)


def demo(
    audio: Annotated[
        Path | None,
        typer.Option(
            envvar="SAYSO_DEMO_AUDIO",
            help="Your own recordings: a folder with a folder for each speaker. Files named "
            "enroll... enroll; without any such file, the first half of each speaker's. [made "
            "voices]",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Contract model file. [SAYSO_MODEL, the shipped model]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a server on this machine, enroll voices, verify calls of theirs and of impostors,
    and stops it.

    Exit status 0 unless something failed; a wrong decision is shown, and is no failure.

    Example: sayso demo
    """
    with one_line_errors():
        voices, trials = _read_audio(audio or SHIPPED)
        failed, results = _run(voices, trials, model, as_json=as_json)
    if as_json:
        for result in results:
            print_json(list_result(result))
    else:
        out.print(make_table(results))
        for line in (summarize(results), describe_threshold(results)):
            say(line)
        say("the server has stopped, and its store is gone")
    if failed or any(result.verdict == "error" for result in results):
        raise typer.Exit(1)


def _read_audio(folder: Path) -> tuple[list[Voice], list[Trial]]:
    voices = read_voices(folder) if folder.is_dir() else []
    trials = make_trials(voices)
    if not trials:
        raise SettingsError(
            f"{folder}: has no speaker folders with two or more WAV, FLAC, Ogg or MP3 files; name "
            "another by --audio"
        )
    return voices, trials


def _run(
    voices: Sequence[Voice], trials: Sequence[Trial], model: Path | None, *, as_json: bool
) -> tuple[int, list[Result]]:
    """How many clips could not be enrolled, and what came of each trial."""
    tell = warn if as_json else say
    with (
        tempfile.TemporaryDirectory(prefix="sayso-demo-") as folder,
        _run_server(Path(folder) / "demo.db", model) as address,
        Client(address) as sayso,
    ):
        tell(f"a Sayso server is ready on {address}")
        failed = _enroll(sayso, voices)
        for speaker in sayso.speakers.list():
            more_s = speaker.speech_needed_s
            needed = f", {more_s:.1f} s more needed" if more_s > 0 else ""
            tell(f"enrolled {speaker.speaker_id}: {speaker.net_speech_s:.1f} s of speech{needed}")
        return failed, [_verify(sayso, trial) for trial in _show_progress(trials, "verifying")]


@contextmanager
def _run_server(store: Path, model: Path | None) -> Iterator[str]:
    """Run a server process; yields host:port once it is ready, and stops it with SIGTERM."""
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("SAYSO_") or name.upper() in _SETTINGS
    }
    command = [
        # -P: do not import modules from the working directory.
        *(sys.executable, "-P", "-m", "service", "serve", "--listen", "127.0.0.1:0"),
        *("--store", f"sqlite:///{store}"),
        *(["--model", str(model)] if model else []),
    ]
    environment = {**others, "SAYSO_LOG_LEVEL": "warning", "SAYSO_LOCK_AFTER_FAILURES": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603 - this program
        try:
            yield _read_address(process)
        finally:
            process.terminate()
            try:
                status = process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    if status:
        raise StartupError(f"the server stopped with exit status {status}; it says why above")


def _read_address(process: "subprocess.Popen[str]") -> str:
    for line in process.stdout or ():
        if line.startswith("serving on "):
            return line.split()[-1]
    raise StartupError(
        f"the server did not start (exit status {process.wait()}); it says why above"
    )


def _enroll(sayso: Client, voices: Sequence[Voice]) -> int:
    """Enroll every voice, and return how many clips failed."""
    failed = 0
    clips = [(voice.name, clip) for voice in voices for clip in voice.enroll]
    for name, clip in _show_progress(clips, "enrolling"):
        try:
            made = sayso.enroll(name, clip)
        except SaysoError as error:
            failed += 1
            err.print(f"{name}: {clip.name} failed: {error}", style=STYLES["error"], markup=False)
            continue
        if not made.stored:
            unused = f"{name}: {clip.name} was not used: {made.explanation}"
            err.print(unused, style=STYLES["open"], markup=False)
    return failed


def _verify(sayso: Client, trial: Trial) -> Result:
    start_s = time.perf_counter()
    made: Decision | SaysoError
    try:
        made = sayso.verify(trial.claim, trial.call)
    except SaysoError as error:
        made = error
    return Result(trial, made, time.perf_counter() - start_s)
