"""The demo: a real server, voices enrolled, genuine calls and impostors verified over gRPC.

SAYSO_DEMO_AUDIO names another folder of speaker folders; SAYSO_MODEL another model.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text
from sayso import Client, Decision, SaysoError

from demo.voices import Trial, Voice, make_trials, read_voices

SHIPPED = Path(__file__).parent / "audio"
STOP_S = 30
STYLES = {"right": "green", "wrong": "bold red", "open": "yellow", "error": "bold red"}

out = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
progress = partial(track, console=out, transient=True, disable=not out.is_terminal)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a trial: a decision, or the error in its place."""

    trial: Trial
    made: Decision | SaysoError
    latency_s: float

    @property
    def verdict(self) -> str:
        """One of STYLES; open means that the server did not decide, and says why."""
        if isinstance(self.made, SaysoError):
            return "error"
        if self.made.outcome not in ("ACCEPTED", "REJECTED"):
            return "open"
        return "right" if self.made.accepted == self.trial.genuine else "wrong"


@contextmanager
def server(store: Path) -> Iterator[str]:
    """A server process of its own: host:port once it is ready, stopped with SIGTERM at the end."""
    command = [sys.executable, "-m", "service", "serve"]
    options = ["--listen", "127.0.0.1:0", "--store", f"sqlite:///{store}"]
    process = subprocess.Popen(
        command + options,
        stdout=subprocess.PIPE,
        text=True,
        env={"SAYSO_LOG_LEVEL": "warning", "SAYSO_LOCK_AFTER_FAILURES": "0", **os.environ},
    )
    try:
        yield _address(process)
    finally:
        process.terminate()
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    if status:
        raise SystemExit(f"the server stopped with exit status {status}")


def _address(process: "subprocess.Popen[str]") -> str:
    for line in process.stdout or ():
        if line.startswith("serving on "):
            return line.split()[-1]
    raise SystemExit(f"the server did not start (exit status {process.wait()}); it says why above")


def enroll(sayso: Client, voices: list[Voice]) -> int:
    """Enrols every voice, and returns how many clips failed."""
    failed = 0
    clips = [(voice.name, clip) for voice in voices for clip in voice.enroll]
    for name, clip in progress(clips, "enrolling"):
        try:
            made = sayso.enroll(name, clip)
        except SaysoError as error:
            failed += 1
            out.print(f"{name}: {clip.name} failed: {error}", style=STYLES["error"])
            continue
        if not made.stored:
            out.print(f"{name}: {clip.name} was not used: {made.explanation}", style=STYLES["open"])
    for speaker in sayso.speakers.list():
        needed = f", {speaker.speech_needed_s:.1f} s more needed" * (speaker.speech_needed_s > 0)
        out.print(f"enrolled {speaker.speaker_id}: {speaker.net_speech_s:.1f} s of speech{needed}")
    return failed


def verify(sayso: Client, trial: Trial) -> Result:
    start_s = time.perf_counter()
    made: Decision | SaysoError
    try:
        made = sayso.verify(trial.claim, trial.call)
    except SaysoError as error:
        made = error
    return Result(trial, made, time.perf_counter() - start_s)


def table(results: list[Result]) -> Table:
    rows = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in ("speaker", "clip", "claims", "truth", "decision"):
        rows.add_column(heading, no_wrap=heading != "clip")
    for heading in ("LLR", "cosine", "net\nspeech", "latency"):
        rows.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        trial = result.trial
        kind = "genuine" if trial.genuine else "impostor"
        rows.add_row(trial.voice, trial.call.name, trial.claim, kind, *_cells(result))
    return rows


def _cells(result: Result) -> list[Text | str]:
    style = STYLES[result.verdict]
    made = result.made
    if isinstance(made, SaysoError):
        return [Text(str(made), style)]
    return [
        Text(made.outcome + " wrong" * (result.verdict == "wrong"), style),
        *("" if score is None else f"{score:.2f}" for score in (made.llr, made.cosine)),
        f"{made.net_speech_s:.1f} s",
        f"{result.latency_s * 1000:.0f} ms",
    ]


def summary(results: list[Result]) -> str:
    def right(*, genuine: bool) -> str:
        mine = [result.verdict for result in results if result.trial.genuine == genuine]
        return f"{mine.count('right')} of {len(mine)}"

    verdicts = [result.verdict for result in results]
    return (
        f"{right(genuine=True)} genuine calls accepted, {right(genuine=False)} impostors rejected; "
        f"{verdicts.count('wrong')} wrong, {verdicts.count('open')} undecided, "
        f"{verdicts.count('error')} failed"
    )


def threshold(results: list[Result]) -> str:
    """The threshold of the first decision that had one; every call here has the same policy."""
    for result in results:
        made = result.made
        if isinstance(made, Decision) and made.threshold_llr is not None:
            return f"accepted from an LLR of {made.threshold_llr:.2f}: {made.threshold_description}"
    return "nothing was compared"


def main() -> int:
    """Exit status 0 unless something failed; a wrong decision is shown, and is no failure."""
    folder = Path(os.environ.get("SAYSO_DEMO_AUDIO", SHIPPED))
    voices = read_voices(folder) if folder.is_dir() else []
    trials = make_trials(voices)
    if not trials:
        raise SystemExit(f"{folder}: no speaker folders with two or more WAV, FLAC or Ogg clips")
    with (
        tempfile.TemporaryDirectory(prefix="sayso-demo-") as place,
        server(Path(place) / "demo.db") as address,
        Client(address) as sayso,
    ):
        out.print(f"a Sayso server is ready on {address}")
        failed = enroll(sayso, voices)
        results = [verify(sayso, trial) for trial in progress(trials, "verifying")]
    out.print(table(results))
    out.print(summary(results))
    out.print(threshold(results))
    out.print("the server has stopped, and its store is gone")
    return int(failed > 0 or any(result.verdict == "error" for result in results))


if __name__ == "__main__":
    sys.exit(main())
