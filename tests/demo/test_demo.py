"""The demo: which clips it tries, what it says of the results, and a whole run."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sayso import Decision, SaysoError

from service.audio.decoding import AudioFormat, decode
from service.commands.demo.report import Result, summarize
from service.commands.demo.run import SHIPPED
from service.commands.demo.voices import SUFFIXES, Trial, make_trials, read_voices
from service.settings import SHIPPED_MODEL

ROOT = SHIPPED.parents[1]
CLIPS = sorted(path for path in SHIPPED.rglob("*") if path.suffix in SUFFIXES)


def folder_of(tmp_path: Path, *clips: str) -> Path:
    for clip in clips:
        path = tmp_path / clip
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def tried(folder: Path) -> set[tuple[str, str, str]]:
    trials = make_trials(read_voices(folder))
    return {(trial.voice, trial.call.name, trial.claim) for trial in trials}


def test_named_clips_enrol_and_who_enrols_nothing_tries_every_speaker(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, "a/enroll-1.wav", "a/z.flac", "b/enroll-1.ogg", "b/a.OPUS", "c/x.wav", "c/note.md"
    )
    assert tried(folder) == {
        ("a", "z.flac", "a"),
        ("a", "z.flac", "b"),
        ("b", "a.OPUS", "b"),
        ("b", "a.OPUS", "a"),
        ("c", "x.wav", "a"),
        ("c", "x.wav", "b"),
    }


def test_without_names_the_first_half_enrols(tmp_path: Path) -> None:
    voices = read_voices(folder_of(tmp_path, "a/1.wav", "a/2.wav", "a/3.wav", "b/1.wav", "b/2.wav"))
    enrolled = [[clip.name for clip in voice.enroll] for voice in voices]
    assert enrolled == [["1.wav", "2.wav"], ["1.wav"]]
    assert [[clip.name for clip in voice.calls] for voice in voices] == [["3.wav"], ["2.wav"]]


def test_one_speaker_alone_has_no_impostor(tmp_path: Path) -> None:
    assert tried(folder_of(tmp_path, "a/1.wav", "a/2.wav")) == {("a", "2.wav", "a")}


def test_nobody_enrolled_means_nothing_to_try(tmp_path: Path) -> None:
    assert tried(folder_of(tmp_path, "note.txt")) == set()


def test_the_shipped_clips_are_small_and_are_those_of_the_list() -> None:
    with (SHIPPED.parent / "clips.csv").open() as rows:
        listed = list(csv.DictReader(rows))
    assert [path.relative_to(SHIPPED).as_posix() for path in CLIPS] == sorted(
        f"{row['speaker']}/{row['name']}" for row in listed
    )
    assert len({row["text"] for row in listed}) == len(listed)
    assert sum(path.stat().st_size for path in CLIPS) < 1_500_000


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: f"{clip.parent.name}/{clip.name}")
def test_a_shipped_clip_is_audio_that_the_service_takes(clip: Path) -> None:
    samples = decode(clip.read_bytes(), AudioFormat(), rate=16000, max_s=60)
    assert 4 * 16000 < samples.size < 14 * 16000
    assert 0.05 < abs(samples).max() < 0.95


def test_the_shipped_voices_are_three_speakers_and_a_stranger() -> None:
    trials = make_trials(read_voices(SHIPPED))
    assert {trial.claim for trial in trials} == {"awb", "rms", "slt"}
    assert sum(trial.genuine for trial in trials) == 6
    assert {trial.claim for trial in trials if trial.voice == "kal"} == {"awb", "rms", "slt"}


def result(claim: str, outcome: str) -> Result:
    made = Decision(
        outcome=outcome,  # type: ignore[arg-type]
        explanation="",
        reasons=(),
        cosine=None,
        llr=None,
        threshold_llr=None,
        threshold_source=None,
        threshold_description="",
        net_speech_s=3.0,
        snr_db=None,
        speech_needed_s=0.0,
        model_id="m",
    )
    return Result(Trial("a", Path("call.wav"), claim), made, 0.01)


def test_a_wrong_decision_is_called_wrong() -> None:
    assert result("a", "ACCEPTED").verdict == "right"
    assert result("a", "REJECTED").verdict == "wrong"
    assert result("b", "ACCEPTED").verdict == "wrong"
    assert result("b", "REJECTED").verdict == "right"
    assert result("b", "INCONCLUSIVE").verdict == "open"
    assert Result(Trial("a", Path("x"), "a"), SaysoError("away"), 0.01).verdict == "error"


def test_the_summary_counts_what_is_right() -> None:
    results = [result("a", "ACCEPTED"), result("a", "INCONCLUSIVE"), result("b", "ACCEPTED")]
    said = summarize(results)
    assert said.startswith("1 of 2 genuine calls accepted, 0 of 1 impostors rejected; 1 wrong")
    assert "1 undecided" in said


def run_demo(*options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "demo", *options],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_says_why_the_server_does_not_start(tmp_path: Path) -> None:
    done = run_demo(SAYSO_MODEL=str(tmp_path / "missing.onnx"))
    assert done.returncode == 2
    assert "missing.onnx" in done.stderr
    assert "the server did not start (exit status 2)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    done = run_demo(SAYSO_DEMO_AUDIO=str(tmp_path))
    assert done.returncode == 2
    assert f"{tmp_path}: has no speaker folders" in done.stderr


@pytest.mark.skipif(not SHIPPED_MODEL.exists(), reason="no model in models/ yet")
def test_the_whole_demo_whatever_is_set_for_a_real_server(tmp_path: Path) -> None:
    done = run_demo(SAYSO_AUDIT=str(tmp_path / "audit"), SAYSO_KEYS=str(tmp_path / "keys.json"))
    assert not list(tmp_path.iterdir())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("verify-") == len(make_trials(read_voices(SHIPPED)))
    assert ", 0 failed" in done.stdout
    assert "the server has stopped" in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(not SHIPPED_MODEL.exists(), reason="no model in models/ yet")
def test_a_clip_that_is_not_audio_fails_alone(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/1.wav", "a/2.wav", "a/3.wav")
    (tmp_path / "a" / "1.wav").write_bytes((SHIPPED / "slt" / "enroll-1.flac").read_bytes())
    (tmp_path / "a" / "2.wav").write_bytes(b"no audio")
    (tmp_path / "a" / "3.wav").write_bytes((SHIPPED / "slt" / "verify-1.flac").read_bytes())
    done = run_demo(SAYSO_DEMO_AUDIO=str(tmp_path))
    assert done.returncode == 1
    assert "a: 2.wav failed" in done.stderr
    assert "1 of 1 genuine" in done.stdout or "0 of 1 genuine" in done.stdout


@pytest.mark.skipif(not SHIPPED_MODEL.exists(), reason="no model in models/ yet")
def test_every_trial_is_an_object(tmp_path: Path) -> None:
    for speaker in ("slt", "rms"):
        (tmp_path / speaker).symlink_to(SHIPPED / speaker)
    done = run_demo("--json", "--audio", str(tmp_path))
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(make_trials(read_voices(tmp_path)))
    assert {result["verdict"] for result in results} == {"right"}
    assert all(result["decision"]["decision_id"] for result in results)
