import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exporters import model_file, parity
from exporters.errors import GraphError, ParityError
from exporters.publish import Candidate, publish
from exporters.tuning import quantize
from exporters.voices import synthesize_voice
from service.contract import Calibration, OperatingPoint


@pytest.fixture
def model(candidate: Candidate, tmp_path: Path) -> Path:
    """A model file with a calibration, so that what becomes of it shows."""
    publish(candidate, tmp_path / "tiny.onnx")
    calibration = Calibration(0.0, {"cosine": 10.0}, ((0.01, 2.0),), "made")
    model_file.rewrite_contract(
        tmp_path / "tiny.onnx",
        lambda contract: dataclasses.replace(
            contract, calibration=calibration, operating_point=OperatingPoint(0.01)
        ),
    )
    return tmp_path / "tiny.onnx"


FRONT_END = 2 * 257 * 400 + 24 * 257


def _elements(path: Path) -> Counter[np.dtype[Any]]:
    """How many weights of each type."""
    count: Counter[np.dtype[Any]] = Counter()
    for tensor in model_file.read(path)[0].graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        count[array.dtype] += array.size
    return count


def _embeddings(path: Path) -> parity.Floats:
    audio = np.stack([synthesize_voice(seed, rate=16000, samples=16000) for seed in range(4)])
    return parity.graph_embed(model_file.read(path)[0])(audio)


def test_half_precision_halves_the_file_and_keeps_the_calibration(
    model: Path, tmp_path: Path
) -> None:
    contract, small = quantize.publish(model, "fp16", tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < model.stat().st_size
    whole, halve = _elements(model), _elements(tmp_path / "half.onnx")
    assert halve[np.dtype(np.float16)] > 0.8 * (whole[np.dtype(np.float32)] - FRONT_END)
    assert parity.least_cosine(_embeddings(model), _embeddings(tmp_path / "half.onnx")) > 0.9999
    assert contract.calibration is not None
    assert contract.model_id.startswith("tiny-fp16-")
    told = contract.provenance["quantised"]
    assert told["from"] == model_file.read(model)[1].model_id
    assert told["least_cosine"] == round(small.least, 7)


def test_eight_bits_leave_the_front_end_alone_and_drop_the_calibration(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(quantize.FLOORS, "int8", 0.5)
    contract, small = quantize.publish(model, "int8", tmp_path / "small.onnx")
    assert contract.model_id.startswith("tiny-int8-")
    graph = model_file.read(tmp_path / "small.onnx")[0].graph
    sources = {output: node for node in graph.node for output in node.output}
    products = [node for node in graph.node if node.op_type in {"Conv", "MatMul"}]
    quantized = [
        sources.get(product.input[0]) is not None
        and sources[product.input[0]].op_type == "DequantizeLinear"
        for product in products
    ]
    assert quantized[:2] == [False, False]
    assert sum(quantized) > 10
    weights = [onnx.numpy_helper.to_array(each) for each in graph.initializer]
    int8_weights = [one for one in weights if one.dtype == np.int8 and one.size > 1]
    assert len(int8_weights) > 10
    assert max(np.abs(one.astype(int)).max() for one in int8_weights) <= 64
    assert small.least < 0.9999
    assert contract.calibration is None
    assert contract.operating_point is None
    again = parity.least_cosine(_embeddings(model), _embeddings(tmp_path / "small.onnx"))
    assert again > 0.5


def test_a_variant_that_drifts_is_refused_and_nothing_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(quantize.FLOORS, "int8", 1.1)
    before = set(tmp_path.iterdir())
    with pytest.raises(ParityError, match="as int8 the model drifts"):
        quantize.publish(model, "int8", tmp_path / "small.onnx")
    assert set(tmp_path.iterdir()) == before


def test_weights_beyond_half_precision_stay_single(candidate: Candidate) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(candidate.graph)
    tensor = next(
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and "bases" not in tensor.name
        and 1000 < np.prod(tensor.dims) < 5000
    )
    huge = onnx.numpy_helper.to_array(tensor) * np.float32(1e9)
    tensor.CopyFrom(onnx.numpy_helper.from_array(huge, tensor.name))
    kept = {weights.name: weights for weights in quantize.halve(model).graph.initializer}
    assert kept[tensor.name].data_type == onnx.TensorProto.FLOAT
    assert any(weights.data_type == onnx.TensorProto.FLOAT16 for weights in kept.values())


def test_what_the_quantizer_cannot_do_is_one_clear_error(candidate: Candidate) -> None:
    no_speech = np.zeros((0, 16000), np.float32)
    with pytest.raises(GraphError, match="cannot be quantized"):
        quantize.quantize_to_int8(candidate.graph, no_speech)
