"""`sayso migrate voiceid`: a job's document and a copy of its recordings, to a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sayso import Client
from typer.testing import CliRunner, Result

from service.commands.application import app
from tests.support.local_server import LocalServer
from tests.support.voices import clips

RATE = 8000


@pytest.fixture
def sayso(sqlite_server: LocalServer) -> Iterator[Client]:
    """A client of a server that forgets everything afterwards."""
    with sqlite_server.client() as client:
        yield client
        for speaker in list(client.speakers.list()):
            if speaker.state == "OPTED_OUT":
                client.speakers.opt_in(speaker.speaker_id)
            client.speakers.delete(speaker.speaker_id)
        for group in list(client.groups.list()):
            client.groups.delete(group.name)


def write_call(path: Path, agent: Path, caller: Path) -> None:
    """A call as Voice ID takes it: 8 kHz, 16 bits, the agent in channel 0, the caller in 1."""
    sides = [resample(agent), resample(caller)]
    length = max(map(len, sides))
    padded = [np.pad(side, (0, length - len(side))) for side in sides]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack(padded, axis=1), RATE, subtype="PCM_16")


def resample(path: Path) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    import soxr  # noqa: PLC0415

    samples, rate = soundfile.read(path, dtype="float32")
    return np.asarray(soxr.resample(samples, rate, RATE), dtype=np.float32)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Two speakers with two recordings each, in a bucket whose copy is tmp_path/copy."""
    requests = []
    for speaker, agent in (("slt", "rms"), ("awb", "rms")):
        audio = []
        for number, clip in enumerate(clips(speaker, "enroll")):
            name = f"2025/{speaker}-{number}.wav"
            write_call(tmp_path / "copy" / name, clips(agent, "enroll")[0], clip)
            audio.append({"S3Uri": f"s3://calls/{name}", "ChannelId": 1})
        requests.append({"RequestId": f"r-{speaker}", "SpeakerId": speaker})
        requests[-1]["AudioSpecifications"] = audio  # type: ignore[assignment]
    return write_job(tmp_path / "job.json", "SpeakerEnrollmentRequests", requests)


def write_job(path: Path, kind: str, requests: object) -> Path:
    path.write_text(json.dumps({"Version": "1.0", kind: requests}))
    return path


def migrate(server: LocalServer, job: Path, *options: str) -> Result:
    copy = str(job.parent / "copy")
    words = ["migrate", "voiceid", str(job), "--recordings", copy, "--server", server.address]
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, [*words, *options])


def read_results(job: Path) -> list[dict[str, object]]:
    lines = job.with_suffix(".results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_callers_channel_is_enrolled(
    sqlite_server: LocalServer, sayso: Client, job: Path
) -> None:
    done = migrate(sqlite_server, job)
    assert done.exit_code == 0, done.output
    assert "4 recordings enrolled, 0 before, 0 skipped" in done.output
    assert sayso.verify("slt", clips("slt", "verify")[0]).accepted
    assert not sayso.verify("slt", clips("rms", "verify")[0]).accepted, "that is the agent"
    enrolled = [line for line in read_results(job) if line["status"] == "enrolled"]
    assert {line["request_id"] for line in enrolled} == {"r-slt", "r-awb"}
    assert {line["path"] for line in enrolled} == {
        f"s3://calls/2025/{speaker}-{number}.wav" for speaker in ("slt", "awb") for number in (0, 1)
    }
    again = migrate(sqlite_server, job)
    assert "0 recordings enrolled, 4 before, 0 skipped" in again.output


def test_a_dry_run_sends_nothing(sqlite_server: LocalServer, sayso: Client, job: Path) -> None:
    done = migrate(sqlite_server, job, "--dry-run")
    assert (done.exit_code, done.output) == (
        0,
        "2 speakers, 4 recordings, 0 files missing; nothing was sent\n",
    )
    (job.parent / "copy/2025/slt-0.wav").unlink()
    done = migrate(sqlite_server, job, "--dry-run")
    assert done.exit_code == 1
    assert "s3://calls/2025/slt-0.wav: there is no file" in done.output
    assert not list(sayso.speakers.list())
    assert not job.with_suffix(".results.jsonl").exists()


def test_an_enrolled_speaker_is_skipped_or_overwritten(
    sqlite_server: LocalServer, sayso: Client, job: Path
) -> None:
    for clip in clips("rms", "enroll"):
        sayso.enroll("slt", clip)
    sayso.speakers.opt_out("awb")
    done = migrate(sqlite_server, job)
    assert done.exit_code == 0, done.output
    assert "0 recordings enrolled, 0 before, 4 skipped" in done.output
    assert sayso.verify("slt", clips("rms", "verify")[0]).accepted
    assert {(line["speaker_id"], line["status"], line["why"]) for line in read_results(job)} == {
        ("slt", "skipped", "the speaker is enrolled already"),
        ("awb", "skipped", "the speaker opted out"),
    }
    done = migrate(sqlite_server, job, "--existing", "overwrite")
    assert done.exit_code == 0, done.output
    assert "2 recordings enrolled, 0 before, 2 skipped" in done.output
    assert sayso.verify("slt", clips("slt", "verify")[0]).accepted
    assert not sayso.verify("slt", clips("rms", "verify")[0]).accepted
    first, second = [line for line in read_results(job) if line["status"] == "enrolled"]
    assert float(str(second["net_speech_s"])) > float(str(first["net_speech_s"])), "it is added"


def test_a_voice_is_replaced_by_the_first_recording_that_is_stored(
    sqlite_server: LocalServer, sayso: Client, job: Path
) -> None:
    for clip in clips("rms", "enroll"):
        sayso.enroll("slt", clip)
    (job.parent / "copy/2025/slt-0.wav").write_bytes(b"no audio")
    done = migrate(sqlite_server, job, "--existing", "OVERWRITE")
    assert done.exit_code == 1
    assert "3 recordings enrolled, 0 before, 0 skipped; 1 were not" in done.output
    assert not sayso.verify("slt", clips("rms", "verify")[0]).accepted


@pytest.mark.parametrize("answered", [True, False])
def test_a_run_goes_on_where_the_last_one_ended(
    sqlite_server: LocalServer, sayso: Client, job: Path, answered: bool
) -> None:
    """Also if the first recording was stored and its answer lost, which leaves the speaker
    enrolled and the second recording unsent."""
    [missing] = job.parent.glob("copy/2025/slt-1.wav")
    kept = missing.read_bytes()
    missing.unlink()
    assert migrate(sqlite_server, job).exit_code == 1
    assert sayso.speakers.get("slt").state == "ENROLLED"
    missing.write_bytes(kept)
    results = job.with_suffix(".results.jsonl")
    if not answered:
        lines = results.read_text().splitlines(keepends=True)
        results.write_text("".join(line for line in lines if '"sent"' in line and "slt-0" in line))
    before = sayso.speakers.get("slt").net_speech_s
    done = migrate(sqlite_server, job)
    assert done.exit_code == 0, done.output
    assert sayso.speakers.get("slt").net_speech_s > before


def test_fraudsters_join_a_group(sqlite_server: LocalServer, sayso: Client, job: Path) -> None:
    audio = [{"S3Uri": "s3://calls/2025/slt-0.wav", "ChannelId": 1}]
    fraud = [{"RequestId": "f-1", "AudioSpecifications": audio}]
    list_ = write_job(job.parent / "fraud.json", "FraudsterRegistrationRequests", fraud)
    refused = migrate(sqlite_server, list_)
    assert refused.exit_code == 2
    assert "--group" in refused.output
    for _ in range(2):
        done = migrate(sqlite_server, list_, "--group", "fraud")
        assert done.exit_code == 0, done.output
        assert list(sayso.groups.members("fraud")) == ["fraudster-f-1"]
    decision = sayso.verify("awb", clips("slt", "verify")[0], watchlists=["fraud"])
    assert [match.speaker_id for match in decision.watchlist_matches] == ["fraudster-f-1"]


def test_an_enrolled_fraudster_is_reported(
    sqlite_server: LocalServer, sayso: Client, job: Path
) -> None:
    for clip in clips("slt", "enroll"):
        sayso.enroll("known", clip)
    sayso.groups.create("fraud", "")
    sayso.groups.add_members("fraud", ["known"])
    done = migrate(sqlite_server, job, "--watchlist", "fraud", "--duplicates", "ALLOW", "--json")
    assert done.exit_code == 0, done.output
    found = {
        line["speaker_id"] for line in read_results(job) if line.get("watchlists") == ["fraud"]
    }
    assert found == {"slt"}
