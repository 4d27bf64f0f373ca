"""The commands, run as a user runs them, with a toy model on the demo's speech."""

import gzip
import html
import json
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from evaluation.__main__ import app
from evaluation.degrade import channels

FEW = ["--replicates", "10"]


def run(*arguments: str | Path, columns: int = 30) -> Result:
    """Run a command off a terminal, where tables are not cut at the `columns` there are."""
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, model_file: Path, speech_manifest: Path
) -> Path:
    """A folder with an evaluation in it."""
    folder = tmp_path_factory.mktemp("evaluated")
    done = run(*evaluation(model_file, speech_manifest, folder))
    assert done.exit_code == 0, done.output
    assert "toy-1" in done.stdout
    assert "mfcc-mean-deviation-1" in done.stdout
    assert "failure to acquire" in done.stdout
    return folder


def evaluation(model_file: Path, speech_manifest: Path, folder: Path) -> list[str | Path]:
    """The main command's arguments; the cache lies in the folder."""
    where = ["--output", folder, "--cache", folder / "cache.sqlite"]
    return ["--model", model_file, "--manifest", speech_manifest, "--split", "dev", *where, *FEW]  # type: ignore[list-item]


def test_the_document_tells_what_was_evaluated(folder: Path) -> None:
    told = json.loads((folder / "evaluation.json").read_text())
    model, yardstick = told["systems"]
    assert (model["system"], yardstick["system"]) == ("toy-1", "mfcc-mean-deviation-1")
    pooled = model["groups"]["pooled"]
    assert pooled["speakers"] == 8
    assert pooled["targets"] + pooled["nontargets"] + model["unscored_trials"] == 32 * 31 // 2
    assert 0 <= pooled["eer"]["interval"]["low"] <= pooled["eer"]["interval"]["high"] <= 1
    assert {point["name"] for point in model["points"]} >= {"EER", "minDCF 0.01", "FMR 1%"}
    assert told["contract"]["model_id"] == "toy-1"
    assert set(told["breakdowns"]) >= {"net speech, heard", "gender"}
    assert "change of gender" not in told["breakdowns"]  # no target differs in it
    assert told["fairness"][0]["by"] == "gender"
    assert len(model["data_digest"]) == 64


def test_the_report_stands_alone(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert page.count("<svg") >= 2
    assert not re.findall(r"(?:src|href)=\"http", page)
    played = re.findall(r'<audio[^>]* src="(file://[^"]+)"', page)
    assert played
    assert all(Path(uri.removeprefix("file://")).is_file() for uri in played)
    assert (folder / "det.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_begins_with_what_it_means_and_how_it_was_made(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    told = json.loads((folder / "evaluation.json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", told["date"])
    assert told["version"] == version("sayso")
    for value in (told["date"], f"sayso {told['version']}", html.escape(told["command"])):
        assert f">{value}</" in page
    assert page.index('class="meaning"') < page.index("<h2>")
    assert "operating_point" not in told  # of a model that promises nothing
    assert "none of its own" in page


def test_on_a_narrow_screen_tables_scroll_and_the_page_does_not(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert page.count("<table") > 3
    assert page.count("<table") == page.count('<div class="scroll" tabindex="0"><table')
    assert ".scroll { overflow-x: auto; }" in page


def test_rows_of_few_trials_are_gray(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    rows = re.findall(r'<tr class="[^"]*few[^"]*"><td>[^<]*(.{25})', page)
    assert rows
    assert all(row.startswith("<small>too few</small>") for row in rows)


def test_the_scores_can_be_evaluated_again(folder: Path, tmp_path: Path) -> None:
    with gzip.open(folder / "scores.tsv.gz", "rt") as stream:
        first = stream.readline().split()
    assert len(first) == 4
    done = run("scores", folder / "scores.tsv.gz", "--output", tmp_path, *FEW)
    assert done.exit_code == 0, done.output
    ours, theirs = (
        json.loads((where / "evaluation.json").read_text())["systems"][0]["groups"]["pooled"]
        for where in (folder, tmp_path)
    )
    assert theirs["eer"]["value"] == pytest.approx(ours["eer"]["value"], abs=1e-4)
    assert theirs["targets"] == ours["targets"]


def test_two_reports_are_compared_on_shared_trials(folder: Path, tmp_path: Path) -> None:
    with gzip.open(folder / "scores.tsv.gz", "rt") as stream:
        lines = stream.read().splitlines()
    better = [
        "\t".join([*words[:3], f"{float(words[3]) + (words[2] == 'target')}"])
        for words in (line.split("\t") for line in lines[:-7])
    ]
    (tmp_path / "better.txt").write_text("\n".join(better) + "\n")
    run("scores", tmp_path / "better.txt", "--output", tmp_path / "b", *FEW)
    documents = [folder / "evaluation.json", tmp_path / "b" / "evaluation.json"]
    done = run("compare", *documents, "--output", tmp_path, *FEW)
    assert done.exit_code == 0, done.output
    assert "B less A, 95%" in done.stdout
    assert "B is better" in done.stdout
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert told["differences"]["EER"]["second_lower"] == 1
    assert f"{len(better):,} trials that both scored" in told["told"]
    assert "<svg" in (tmp_path / "comparison.html").read_text()


def test_conditions_are_measured_and_enter_the_report(
    folder: Path, model_file: Path, speech_manifest: Path
) -> None:
    asked = ["--speech", "0.5,full", "--snr", "clean,5", "--codec", "mulaw", "--clips", "16"]
    done = run("conditions", *evaluation(model_file, speech_manifest, folder), *asked)
    assert done.exit_code == 0, done.output
    assert "G.711 mu-law" in done.stdout
    told = json.loads((folder / "conditions.json").read_text())
    places = {(cell["channel"], cell["length"]) for cell in told["cells"]}
    assert places == {
        (channel, length)
        for channel in ("as recorded", "5 dB", "G.711 mu-law")
        for length in ("0.5 s", "full")
    }
    assert "<h2>Conditions</h2>" in (folder / "report.html").read_text()


def test_back_ends_are_compared_and_enter_the_report(
    folder: Path, model_file: Path, speech_manifest: Path
) -> None:
    done = run("backends", *evaluation(model_file, speech_manifest, folder), "--lda-dim", "3")
    assert done.exit_code == 0, done.output
    names = [row["name"] for row in json.loads((folder / "variants.json").read_text())["rows"]]
    assert names[0] == "cosine"
    assert "adaptive S-norm, top 4" in names
    assert "PLDA after LDA to 3" in names
    assert "adaptive S-norm" in (folder / "report.html").read_text()


def test_shards_are_embedded_apart_and_merged(
    model_file: Path, speech_manifest: Path, tmp_path: Path
) -> None:
    for index in range(2):
        where = ["--cache", tmp_path / f"{index}.sqlite", "--shard", f"{index}/2"]
        done = run("--model", model_file, "--manifest", speech_manifest, *where)  # type: ignore[arg-type]
        assert "24 clips" in done.stdout, done.output
    shards = [tmp_path / "0.sqlite", tmp_path / "1.sqlite"]
    done = run("merge", tmp_path / "all.sqlite", *shards)
    assert done.stdout.count("24 new embeddings") == 2
    again = run("merge", tmp_path / "all.sqlite", shards[0])
    assert "0 new embeddings" in again.stdout


def test_each_side_through_its_own_channel(
    model_file: Path, speech_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(channels.ANY, codecs=("none", "mulaw"))
    monkeypatch.setattr(channels, "ANY", plain)
    done = run(
        *evaluation(model_file, speech_manifest, tmp_path), "--cross-channel", "--same", "gender"
    )
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "evaluation.json").read_text())
    assert "same gender" in told["trials_made"]
    assert "channel of its own" in told["trials_made"]


def test_a_kaldi_list_with_an_enrolment_map(
    model_file: Path, speech_manifest: Path, tmp_path: Path
) -> None:
    (tmp_path / "list").write_text("m awb1-2.wav target\nm kal1-0.wav nontarget\n")
    (tmp_path / "map").write_text("m awb1-0.wav awb1-1.wav\n")
    asked = ["--trials", tmp_path / "list", "--enrolments", tmp_path / "map", "--no-baseline"]
    done = run(*evaluation(model_file, speech_manifest, tmp_path), *asked)  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output
    with gzip.open(tmp_path / "scores.tsv.gz", "rt") as stream:
        assert [line.split()[:3] for line in stream] == [
            ["m", "awb1-2.wav", "target"],
            ["m", "kal1-0.wav", "nontarget"],
        ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Usage"),
        (["--split", "dev"], "--model"),
        (["--model", "none.onnx"], "give --manifest"),
        (["--model", "none.onnx", "--manifest", "none.csv"], "none.csv: No such file"),
        (["--model", "none.onnx", "--manifest", "{speech_manifest}"], "no model file at none.onnx"),
        (
            ["--model", "none.onnx", "--manifest", "{speech_manifest}", "--same", "age"],
            "no clip has",
        ),
        (
            ["--model", "none.onnx", "--manifest", "{speech_manifest}", "--shard", "2/2"],
            "expected i/n",
        ),
        (["scores", "none.txt"], "none.txt: No such file"),
        (["compare", "a.json", "b.json"], "a.json: No such file"),
        (["merge", "out.sqlite", "none.sqlite"], "none.sqlite is missing"),
        (
            ["conditions", "--model", "m", "--manifest", "{speech_manifest}", "--speech", "long"],
            "'long' is neither",
        ),
        (
            ["backends", "--model", "m", "--manifest", "{speech_manifest}", "--fit-split", "dev"],
            "shares speakers",
        ),
    ],
)
def test_mistakes_are_told_in_a_line_with_status_2(
    arguments: list[str],
    said: str,
    speech_manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*(one.replace("{speech_manifest}", str(speech_manifest)) for one in arguments))
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_help_says_units_and_defaults() -> None:
    for command in ([], ["conditions"], ["backends"], ["scores"], ["compare"], ["merge"]):
        done = run(*command, "--help", columns=120)
        assert done.exit_code == 0
        assert "Usage" in done.output
    assert "seconds" in run("conditions", "--help", columns=120).output
