import json
from pathlib import Path
from typing import Any

import pytest

from exporters import model_file
from exporters.errors import ExportError
from exporters.publish import Candidate, publish
from exporters.tuning import record


@pytest.fixture
def model(candidate: Candidate, tmp_path: Path) -> Path:
    publish(candidate, tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def _report(path: Path, model_id: str) -> Path:
    figures = {"eer": {"value": 0.05, "interval": None}, "targets": 10, "nontargets": 90}
    systems: list[dict[str, Any]] = [
        {"system": model_id, "data_digest": "abc", "groups": {"pooled": figures}},
        {"system": "mfcc", "data_digest": "abc", "groups": {}},
    ]
    path.write_text(json.dumps({"schema": 1, "systems": systems}))
    return path


def test_the_figures_and_digests_go_into_the_contract(model: Path, tmp_path: Path) -> None:
    before = model_file.read(model)[1]
    report = _report(tmp_path / "evaluation.json", before.model_id)
    after = record.write(model, report)
    assert model_file.read(model)[1] == after
    assert after.evaluation == {
        "model_id": before.model_id,
        "groups": {"pooled": {"eer": 0.05, "targets": 10, "nontargets": 90}},
        "data_digest": "abc",
        "report": model_file.digest(report),
    }


def test_a_report_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    with pytest.raises(ExportError, match="is of other-123"):
        record.write(model, _report(tmp_path / "evaluation.json", "other-123"))
    assert model.read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", '{"systems": []}', '{"systems": [{}]}'])
def test_what_is_no_report_is_refused(model: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(ExportError, match=r"no evaluation\.json"):
        record.write(model, tmp_path / "evaluation.json")


def test_a_missing_report_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot read"):
        record.write(model, tmp_path / "none.json")
