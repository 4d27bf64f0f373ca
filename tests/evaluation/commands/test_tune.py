"""`sayso-evaluate tune`, run as a user runs it, on made calls and with a toy model."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner, Result

from evaluation.__main__ import app
from evaluation.tuning.model_file import write_contract
from service.contract import Calibration, Contract, OperatingPoint
from service.inference.session import Session
from tests.support.made_speech import write_calls

POINTS = ((0.2, -0.5), (0.1, 0.0), (0.05, 1.0), (0.02, 2.0), (0.01, 3.0))


def run(*arguments: str | Path) -> Result:
    few = ["--replicates", "50"]
    return CliRunner().invoke(app, ["tune", *map(str, arguments), *few])


def read_contract(path: Path) -> Contract:
    return Session.open(path, device="cpu", threads=1).contract


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_calls(tmp_path_factory.mktemp("calls"))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Path:
    """The toy model with a calibration that lets nearly everybody pass."""
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    lenient = Calibration(0.0, {"cosine": 10.0}, POINTS, "nothing")
    write_contract(
        model_file,
        replace(
            read_contract(model_file),
            calibration=lenient,
            operating_point=OperatingPoint(0.01),
        ),
        path,
    )
    return path


def test_labelled_calls_give_a_calibrated_model_and_a_report(
    calibrated: Path, calls: Path, tmp_path: Path
) -> None:
    where: list[str | Path] = ["--output", tmp_path / "out", "--cache", tmp_path / "cache.sqlite"]
    done = run(calibrated, calls, *where)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "tuning.json").read_text())
    assert told["tuned"] == str(tmp_path / "out" / "toy.onnx")
    assert told["before"]["fmr"]["value"] > 0.5
    assert told["after"]["fmr"]["value"] < 0.1
    assert "calibration and thresholds" in told["kept"]
    assert told["line"]["narrow"] == 1.0
    assert {group["by"] for group in told["groups"]} >= {"change of handset"}
    for said in ("impostors accepted, 1% promised", "kept: ", "narrow band"):
        assert said in done.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    for said in ("Before and after", "Where it falls short", "enrolled voices stay valid"):
        assert said in page
    tuned, own = read_contract(tmp_path / "out" / "toy.onnx"), read_contract(calibrated)
    assert tuned.model_id == own.model_id
    assert tuned.calibration != own.calibration
    assert onnx.load(told["tuned"]).graph == onnx.load(calibrated).graph


def test_unlabelled_calls_give_thresholds_alone(
    calibrated: Path, calls: Path, tmp_path: Path
) -> None:
    where: list[str | Path] = ["--output", tmp_path / "out", "--cache", tmp_path / "cache.sqlite"]
    done = run(calibrated, calls.parent, *where, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert told["kept"] == ["thresholds"]
    assert told["before"] is None
    assert told["missing"][0].startswith("20 more speakers with two recordings each")
    promise = told["promise"]
    assert (
        promise["own"]["interval"]["low"]
        > 0.01
        == pytest.approx(promise["measured"]["value"], abs=0.005)
    )
    tuned, own = read_contract(tmp_path / "out" / "toy.onnx"), read_contract(calibrated)
    assert tuned.calibration.false_match != own.calibration.false_match
    assert (tuned.calibration.weights, tuned.cohort) == (own.calibration.weights, own.cohort)


def test_a_model_without_a_calibration_gets_one_or_hears_what_is_missing(
    model_file: Path, calls: Path, tmp_path: Path
) -> None:
    cache: list[str | Path] = ["--cache", tmp_path / "cache.sqlite"]
    assert run(model_file, calls, "--output", tmp_path / "out", *cache).exit_code == 0
    assert read_contract(tmp_path / "out" / "toy.onnx").calibration is not None
    done = run(model_file, calls.parent, "--output", tmp_path / "bare", *cache)
    assert done.exit_code == 0, done.output
    assert "no model was written" in done.stdout
    assert not (tmp_path / "bare" / "toy.onnx").exists()


def test_what_cannot_be_tuned_is_one_line(model_file: Path, calls: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, said in (
        ((tmp_path / "no.onnx", calls), "there is no model file"),
        ((model_file, empty), "holds no .flac"),
        ((model_file, tmp_path / "no.csv"), "name a folder of recordings"),
        ((model_file, calls, "--output", model_file.parent), "choose another --output"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert said in " ".join(done.stderr.split())
        assert "Traceback" not in done.output
