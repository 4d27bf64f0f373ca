"""The command line: what it writes, and that what is wrong ends in one line and status 2."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from evaluation.commands import terminal
from exporters import model_file
from exporters.__main__ import app
from exporters.publish import Candidate, publish


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _refused(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def model(candidate: Candidate, tmp_path: Path) -> Path:
    publish(candidate, tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


@pytest.mark.parametrize(
    "command", ["checkpoint", "adopt", "calibrate", "windows", "quantize", "record"]
)
def test_every_command_explains_itself(command: str) -> None:
    result = _run(command, "--help")
    assert result.exit_code == 0
    assert "--" in result.output


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_text("hello")
    result = _run("checkpoint", tmp_path / "best.pt", "--output", tmp_path / "m.onnx")
    _refused(result, "no checkpoint of this code")
    assert not (tmp_path / "m.onnx").exists()


def test_windows_that_cannot_be(tmp_path: Path) -> None:
    arguments = ["checkpoint", tmp_path / "x.pt", "--output", tmp_path / "m.onnx"]
    _refused(_run(*arguments, "--window-s", 1, "--hop-s", 2), "hop")


def test_what_cannot_be_adopted(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    output = tmp_path / "m.onnx"
    _refused(_run("adopt", "nobody", "--output", output), "no model of that name: resemblyzer")
    _refused(_run("adopt", tmp_path / "x.onnx", "--output", output), "x.onnx")
    _refused(_run("adopt", "https://example.org/x.onnx", "--output", output), "--sha256")
    _refused(_run("adopt", "resemblyzer", "--output", output, "--hop-s", 1), "--window-s")
    assert not output.exists()


def test_what_cannot_be_calibrated(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    arguments = ["calibrate", model, "--in-place", "--manifest"]
    _refused(_run(*arguments, tmp_path / "none.csv"), "none.csv")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,speaker,split\n")
    _refused(_run(*arguments, manifest), "no clip")
    assert model.read_bytes() == before


@pytest.mark.parametrize("command", ["calibrate", "record"])
def test_a_model_is_changed_in_place_only_by_request(
    command: str, model: Path, tmp_path: Path
) -> None:
    before = model.read_bytes()
    arguments = ["--manifest", tmp_path / "m.csv"] if command == "calibrate" else [tmp_path / "r"]
    both = ["--in-place", "--output", tmp_path / "other.onnx"]
    for options in ([], both):
        _refused(_run(command, model, *arguments, *options), "--in-place to change MODEL itself")
    assert model.read_bytes() == before


def test_a_report_is_recorded_in_place_or_in_a_copy(model: Path, tmp_path: Path) -> None:
    model_id = model_file.read(model)[1].model_id
    figures = {"eer": {"value": 0.05, "interval": None}, "targets": 10, "nontargets": 90}
    system = {"system": model_id, "data_digest": "abc", "groups": {"pooled": figures}}
    report = tmp_path / "evaluation.json"
    report.write_text(json.dumps({"schema": 1, "systems": [system]}))
    before = model.read_bytes()
    copy = tmp_path / "copy.onnx"
    assert _run("record", model, report, "--output", copy).exit_code == 0
    assert model.read_bytes() == before
    assert model_file.read(copy)[1].evaluation
    assert _run("record", model, report, "--in-place").exit_code == 0
    assert model.read_bytes() == copy.read_bytes()


@pytest.mark.parametrize("command", ["adopt", "quantize"])
def test_a_terminal_shows_what_is_done(
    command: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=screen, force_terminal=True, width=120))
    arguments = ["resemblyzer"] if command == "adopt" else [model, "--to", "fp16"]
    result = _run(command, *arguments, "--output", tmp_path / "new.onnx")
    assert result.exit_code == 0, result.output
    assert "new.onnx" in result.stdout
    for step in ("reading speech", "comparing with the original"):
        assert step in screen.getvalue()


def test_a_variant_is_written(model: Path, tmp_path: Path) -> None:
    result = _run("quantize", model, "--to", "fp16", "--output", tmp_path / "half.onnx")
    assert result.exit_code == 0, result.output
    assert "tiny-fp16-" in result.stdout
    assert result.stderr == ""
    contract = model_file.read(tmp_path / "half.onnx")[1]
    assert contract.provenance["quantised"]["kind"] == "fp16"


def test_a_folder_without_speech(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "half.onnx"
    (tmp_path / "empty").mkdir()
    arguments = ["quantize", model, "--to", "fp16", "--output", output]
    _refused(_run(*arguments, "--speech", tmp_path / "empty"), "holds no")
