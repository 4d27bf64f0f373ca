"""A model file with another contract."""

import hashlib
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from evaluation.errors import EvaluationError
from evaluation.tuning.model_file import require_other, write_contract
from service.contract import METADATA_KEY, Cohort, Contract
from service.inference.session import Session


def read(path: Path) -> tuple[onnx.ModelProto, Contract]:
    model = onnx.load(path)
    return model, Contract.from_metadata({one.key: one.value for one in model.metadata_props})


def test_only_the_contract_changes(model_file: Path, tmp_path: Path) -> None:

    before, contract = read(model_file)
    before.metadata_props.add(key="other", value="stays")
    before.producer_name = "somebody"
    source, output = tmp_path / "source.onnx", tmp_path / "new" / "model.onnx"
    onnx.save(before, source)
    vectors = bytes(4 * 3 * contract.dimension)
    tuned = replace(contract, cohort=Cohort(vectors, 3, 2, "calls"))
    write_contract(source, tuned, output)
    after, written = read(output)
    assert written == tuned
    assert Session.open(output, device="cpu", threads=1).contract == tuned  # digest and all
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    assert output.with_name("model.onnx.sha256").read_text() == f"{digest}  model.onnx\n"
    for model in (before, after):
        kept = [one for one in model.metadata_props if one.key != METADATA_KEY]
        assert [one.value for one in kept] == ["stays"]
        del model.metadata_props[:]
    assert after == before


def test_another_models_contract_is_refused(model_file: Path, tmp_path: Path) -> None:

    _, contract = read(model_file)
    other = replace(contract, model_id="other-1")
    with pytest.raises(EvaluationError, match="other-1 is the contract of another model"):
        write_contract(model_file, other, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(EvaluationError, match="choose another --output"):
        require_other(model_file, model_file.parent / "." / model_file.name)
