"""A promised false-match rate, checked in conditions that nobody asked for."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.helper
import pytest
from typer.testing import CliRunner

from evaluation.__main__ import app
from evaluation.experiments import promises
from service.contract import Calibration, Contract, OperatingPoint


@pytest.fixture(scope="module")
def promising(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model, which accepts cosines from 0.9."""
    model = onnx.load(model_file)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    contract = replace(
        Contract.from_metadata(metadata),
        calibration=Calibration(-9.0, {"cosine": 10.0}, ((0.1, 0.0),), "made"),
        operating_point=OperatingPoint(0.1),
    )
    onnx.helper.set_model_props(model, contract.to_metadata())
    path = tmp_path_factory.mktemp("promising") / "toy.onnx"
    onnx.save(model, path)
    return path


def test_each_condition_is_checked_on_one_side_and_on_both(
    promising: Path, speech_manifest: Path, tmp_path: Path
) -> None:
    where = ["--output", str(tmp_path), "--cache", str(tmp_path / "cache.sqlite")]
    asked = ["--condition", "clean", "--condition", "DC offset", "--condition", "steep line"]
    arguments = ["promises", "--model", promising, "--manifest", speech_manifest, "--split", "dev"]
    done = CliRunner(env={"COLUMNS": "160"}).invoke(
        app, [*map(str, arguments), *where, *asked, "--replicates", "10"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / promises.NAME).read_text())
    assert (told["promised"], told["system"]) == (0.1, "toy-1")
    assert [(row["condition"], row["both_sides"]) for row in told["rows"]] == [
        ("clean", False),
        ("DC offset", False),
        ("DC offset", True),
        ("steep line", False),
        ("steep line", True),
    ]
    for row in told["rows"]:
        for rate in (row["accepted"], row["rejected"]):
            assert rate["interval"]["low"] <= rate["value"] <= rate["interval"]["high"]
        assert row["holds"] == (row["accepted"]["interval"]["low"] <= 0.1)
    assert "fails" in done.stdout  # the toy hears who is on the same steep line as the same


def test_the_report_measures_at_the_models_own_operating_point(
    promising: Path, speech_manifest: Path, tmp_path: Path
) -> None:
    where = ["--output", str(tmp_path), "--cache", str(tmp_path / "cache.sqlite")]
    asked = ["--model", str(promising), "--manifest", str(speech_manifest), "--split", "dev"]
    done = CliRunner().invoke(app, [*asked, *where, "--replicates", "10", "--no-baseline"])
    assert done.exit_code == 0, done.output
    own = json.loads((tmp_path / "evaluation.json").read_text())["operating_point"]
    assert (own["promised"], own["llr"]) == (0.1, 0.0)
    page = (tmp_path / "report.html").read_text()
    assert "the model's own: 10.00% false matches promised" in page
    assert f"{100 * own['rejected']['value']:.2f}% of genuine callers rejected" in page
    assert "At the model&#39;s own threshold, of" in page


def test_a_model_that_promises_nothing_is_told(model_file: Path, speech_manifest: Path) -> None:
    done = CliRunner().invoke(
        app, ["promises", "--model", str(model_file), "--manifest", str(speech_manifest)]
    )
    assert done.exit_code == 2
    assert "promises nothing" in done.output
