from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from training.__main__ import app
from training.errors import GeneratorError, ManifestError
from training.spoofs import corpus, programs, texts
from training.spoofs.corpus import BONA_FIDE, BonaFide
from training.spoofs.generators import GENERATORS, Source

RATE_HZ = 16000
runner = CliRunner()


def make_rows(speakers: int, clips: int, *, corpora: int = 1, split: str = "train") -> list:
    return [
        BonaFide(Path(f"c{c}/s{s}/{n}.opus"), f"c{c}", f"s{s}", split, ("en", "", ""))
        for c in range(corpora)
        for s in range(speakers)
        for n in range(clips)
    ]


@pytest.fixture
def bona_fide(tmp_path: Path) -> Path:
    """A manifest of two speakers in each of two splits, with noise for speech."""
    rng = np.random.default_rng(0)
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "corpus", "speaker", "split", "seconds", "language"])
        for split in ("train", "dev"):
            for speaker in range(2):
                name = f"{split}{speaker}.wav"
                speech = 0.1 * rng.standard_normal(RATE_HZ)
                soundfile.write(tmp_path / name, speech, RATE_HZ)
                writer.writerow([name, "made", f"{split}{speaker}", split, "1.0", "xx"])
    return path


def test_held_out_generators_are_not_in_the_training_split() -> None:
    held_out = {name for name, generator in GENERATORS.items() if generator.held_out}
    assert held_out
    for split, wanted in (("train", set(GENERATORS) - held_out), ("dev", set(GENERATORS))):
        rows = make_rows(3, 4, split=split)
        jobs = corpus.plan(rows, bona_fide=5, each=3, attacks=list(GENERATORS), seed=1)
        assert {job.attack for job in jobs} == wanted | {BONA_FIDE}
        assert all(job.other.speaker != job.source.speaker for job in jobs)
        assert len({job.name for job in jobs}) == len(jobs)


def test_clips_are_drawn_in_turns_of_corpora_and_speakers() -> None:
    rows = make_rows(3, 50, corpora=2) + make_rows(40, 1)
    jobs = corpus.plan(rows, bona_fide=6, each=1, attacks=[], seed=1)
    assert sorted(job.source.corpus for job in jobs) == ["c0"] * 3 + ["c1"] * 3
    assert len({(job.source.corpus, job.source.speaker) for job in jobs}) == 6


def test_a_plan_is_repeated_by_its_seed() -> None:
    rows = make_rows(5, 5)
    one, same, other = (
        corpus.plan(rows, bona_fide=9, each=2, attacks=["codec2"], seed=seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_the_clips_of_an_attack_do_not_depend_on_the_others() -> None:
    rows = make_rows(5, 5)
    alone = corpus.plan(rows, bona_fide=3, each=4, attacks=["codec2"], seed=1)
    among = corpus.plan(rows, bona_fide=9, each=4, attacks=["espeak", "codec2"], seed=1)
    assert [job for job in among if job.attack == "codec2"] == alone[3:]


def test_one_speaker_is_too_few() -> None:
    with pytest.raises(ManifestError, match="two or more"):
        corpus.plan(make_rows(1, 5), bona_fide=2, each=2, attacks=["codec2"], seed=1)


def test_clips_are_repeated_and_listed_with_attack_and_source(
    bona_fide: Path, tmp_path: Path
) -> None:
    arguments = ["spoofs", str(bona_fide), "--attacks", "replay-near,replay-far"]
    sizes = ["--bona-fide", "2", "--each", "2"]
    made = []
    for name in ("one", "two"):
        result = runner.invoke(app, [*arguments, *sizes, "--output", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        with (tmp_path / name / "manifest.csv").open() as file:
            rows = list(csv.DictReader(file))
        made.append([soundfile.read(tmp_path / name / row["path"])[0] for row in rows])
    for first, second in zip(*made, strict=True):
        assert np.array_equal(first, second)
    attacks = sorted((row["split"], row["attack"]) for row in rows)
    assert attacks == [
        *[("dev", BONA_FIDE)] * 2,
        *[("dev", "replay-far")] * 2,
        *[("dev", "replay-near")] * 2,
        *[("train", BONA_FIDE)] * 2,
        *[("train", "replay-near")] * 2,
    ]
    assert all(Path(row["source"]).stem == row["speaker"] for row in rows)
    assert {row["kind"] for row in rows} == {BONA_FIDE, "replay"}
    assert {row["language"] for row in rows} == {"xx"}


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(GeneratorError, match="apt-get install flite"):
        programs.require("flite", "flite")


def test_an_unknown_attack_is_one_line(bona_fide: Path, tmp_path: Path) -> None:
    arguments = ["spoofs", str(bona_fide), "--output", str(tmp_path), "--attacks", "parrot"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: no attack parrot; there are espeak")


def test_what_no_microphone_heard_gets_the_recordings_floor() -> None:
    rng = np.random.default_rng(0)
    recording = 0.01 * rng.standard_normal(2 * RATE_HZ).astype(np.float32)
    recording[:RATE_HZ] *= 20
    synthetic = np.zeros(2 * RATE_HZ, np.float32)
    synthetic[:RATE_HZ] = np.sin(np.arange(RATE_HZ) / 5).astype(np.float32)
    made = corpus.capture(synthetic, recording, rng, dry=True)
    assert corpus.measure_floor(recording) == pytest.approx(0.01, rel=0.2)
    assert 0.002 < corpus.measure_floor(made) < 0.02


def test_a_word_that_names_the_file_is_said_again() -> None:
    rng = np.random.default_rng(0)
    assert texts.choose_text(Path("speaker/six-05.opus"), rng) == "six"
    assert len(texts.choose_text(Path("speaker/40075.opus"), rng).split()) > 4


@pytest.mark.parametrize(
    ("attack", "program"),
    [
        ("espeak", "espeak-ng"),
        ("flite-diphone", "flite"),
        ("flite-statistical", "flite"),
        ("festival-diphone", "text2wave"),
        ("festival-hts", "text2wave"),
    ],
)
def test_synthesizers_speak(attack: str, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    silence = np.zeros(RATE_HZ, np.float32)
    source = Source(silence, silence, "please read me my balance", RATE_HZ)
    speech = GENERATORS[attack].make(source, np.random.default_rng(0))
    assert 0.8 < speech.size / RATE_HZ < 6.0
    assert np.abs(speech).max() > 0.01
