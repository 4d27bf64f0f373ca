"""Many recordings at once, over real gRPC: mixed, cancelled, killed and gone on with."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sayso import BatchItem, Client, FailedPrecondition, InvalidArgument, RawAudio
from typer.testing import CliRunner, Result

from service.commands.application import app
from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT, SaysoServer
from tests.support.voices import FOLDER, clips

SPEAKERS = ("awb", "rms", "slt")
_PATIENCE_S = 60.0


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def sayso_enroll(server: LocalServer, manifest: Path, *options: str) -> Result:
    arguments = ["enroll", "--manifest", str(manifest), "--server", server.address, *options]
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """The enrolment recordings of three voices, beside a manifest that names them."""
    lines = ["speaker_id,path"]
    for speaker in SPEAKERS:
        for clip in clips(speaker, "enroll"):
            shutil.copy(clip, tmp_path / f"{speaker}-{clip.name}")
            lines.append(f"{speaker},{speaker}-{clip.name}")
    path = tmp_path / "voices.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def forgotten(sqlite_server: LocalServer) -> Iterator[Client]:
    """A client of a server that forgets the speakers afterwards."""
    with sqlite_server.client() as sayso:
        yield sayso
        for speaker in list(sayso.speakers.list()):
            sayso.speakers.delete(speaker.speaker_id)


def test_a_bad_item_does_not_end_the_stream(sayso: Client, tmp_path: Path) -> None:
    sayso.speakers.opt_out("shy")
    slt, awb = clips("slt", "enroll")[0], clips("awb", "enroll")[0]
    items = [
        BatchItem("slt", slt, consent="form 9", metadata={"line": "mobile"}),
        BatchItem("nobody", b"this is no audio"),
        BatchItem("", slt),
        BatchItem("shy", slt),
        BatchItem("gone", tmp_path / "missing.wav"),
        BatchItem("silent", bytes(32_000), raw=RawAudio("LINEAR16", 8000)),
        BatchItem("huge", bytes(17 * 2**20)),
        BatchItem("awb", awb.read_bytes()),
    ]
    results = {result.index: result for result in sayso.batch_enroll(items)}
    assert sorted(results) == list(range(len(items)))
    errors = [results[index].error for index in range(len(items))]
    invalid = InvalidArgument
    kinds = [None, invalid, invalid, FailedPrecondition, invalid, None, invalid, None]
    assert [error and type(error) for error in errors] == kinds
    assert [error and error.reason for error in errors[1:4]] == [
        *("UNREADABLE_AUDIO", "INVALID_FIELD", "SPEAKER_OPTED_OUT")
    ]
    fields = [error.field for error in errors if isinstance(error, InvalidArgument)]
    assert fields[:2] == ["audio", "config.speaker_id"]
    made = [results[index].enrollment for index in (0, 5, 7)]
    assert [each and each.stored for each in made] == [True, False, True]
    assert "missing.wav" in str(errors[4])
    slt_now = sayso.speakers.get("slt")
    assert (slt_now.consent, slt_now.metadata) == ("form 9", {"line": "mobile"})
    assert sayso.verify("awb", clips("awb", "verify")[0]).accepted
    for speaker in list(sayso.speakers.list()):
        sayso.speakers.delete(speaker.speaker_id)


def test_a_repeated_item_is_not_added_twice(forgotten: Client) -> None:
    items = [BatchItem("slt", clip) for clip in clips("slt", "enroll")]
    assert len(items) > 1
    (first,) = {result.speaker_id for result in forgotten.batch_enroll(items)}
    before = forgotten.speakers.get(first)
    for result in forgotten.batch_enroll([*items, *items]):
        assert result.enrollment
        assert result.enrollment.stored
    assert forgotten.speakers.get(first) == before
    forgotten.enroll("slt", clips("slt", "enroll")[0])
    assert forgotten.speakers.get(first) == before


def test_cancelling_ends_the_work(tmp_path: Path) -> None:
    go_on = threading.Event()

    def items() -> Iterator[BatchItem]:
        for clip in clips("slt", "enroll"):
            yield BatchItem("slt", clip)
        go_on.wait(_PATIENCE_S)

    store = f"sqlite:///{tmp_path / 'sayso.db'}"
    with SaysoServer(store=store) as server, server.client() as sayso:
        results = sayso.batch_enroll(items())
        next(results)
        results.close()  # type: ignore[attr-defined]
        go_on.set()
        until(lambda: "/BatchEnroll " in server.log)
        assert sayso.speakers.get("slt").net_speech_s > 0
        assert sayso.ready()


def test_a_manifest_is_enrolled_and_failures_are_tried_again(
    sqlite_server: LocalServer, forgotten: Client, manifest: Path
) -> None:
    broken = manifest.with_name(f"awb-{clips('awb', 'enroll')[0].name}")
    whole = broken.read_bytes()
    broken.write_bytes(b"this is no audio")
    first = sayso_enroll(sqlite_server, manifest)
    assert first.exit_code == 1, first.output
    assert "1 were not" in first.output
    assert broken.name in first.output
    known = {speaker.speaker_id: speaker for speaker in forgotten.speakers.list()}
    assert {"rms", "slt"} <= set(known)
    broken.write_bytes(whole)
    second = sayso_enroll(sqlite_server, manifest)
    assert second.exit_code == 0, second.output
    assert second.stdout.startswith("1 recordings enrolled")
    assert forgotten.speakers.get("slt") == known["slt"]
    third = sayso_enroll(sqlite_server, manifest)
    assert third.exit_code == 0
    assert third.stdout.startswith("0 recordings enrolled")


def test_a_killed_run_is_gone_on_with(
    sqlite_server: LocalServer, forgotten: Client, manifest: Path, tmp_path: Path
) -> None:
    """The reader hangs at a recording that is a pipe nobody writes to; there it is killed."""
    names = [line.split(",")[1] for line in manifest.read_text().split()[1:]]
    hanging = tmp_path / names[3]
    whole = hanging.read_bytes()
    hanging.unlink()
    os.mkfifo(hanging)
    results = tmp_path / "answers.jsonl"
    command = [sys.executable, "-m", "service", "enroll", "--manifest", str(manifest)]
    command += ["--results", str(results), "--server", sqlite_server.address]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as running:
        until(lambda: results.exists() and results.read_text().count("\n") == 3)
        running.kill()
    hanging.unlink()
    hanging.write_bytes(whole)
    *kept, _ = results.read_text().splitlines(keepends=True)
    results.write_text("".join(kept))  # as if the last answer had been lost
    again = sayso_enroll(sqlite_server, manifest, "--results", str(results))
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith(f"{len(names) - 2} recordings enrolled, 2 before")
    after = {speaker.speaker_id: speaker.net_speech_s for speaker in forgotten.speakers.list()}
    for speaker in SPEAKERS:
        forgotten.speakers.delete(speaker)
        once = [forgotten.enroll(speaker, clip) for clip in clips(speaker, "enroll")][-1]
        assert after[speaker] == pytest.approx(once.net_speech_s)


def test_a_manifest_and_a_speaker_do_not_go_together(
    sqlite_server: LocalServer, manifest: Path
) -> None:
    assert sayso_enroll(sqlite_server, manifest, "--replace").exit_code == 2
    assert sayso_enroll(sqlite_server, manifest, "slt", str(FOLDER)).exit_code == 2
    assert CliRunner().invoke(app, ["enroll"]).exit_code == 2
