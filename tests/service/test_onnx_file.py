"""A model that keeps a part of itself elsewhere is refused, wherever in the graph it does so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from service.errors import ModelError
from service.inference.session import Session
from service.onnx_file import require_self_contained
from service.settings import SHIPPED_MODEL


def tensor(name: str = "w") -> onnx.TensorProto:
    made = numpy_helper.from_array(np.ones(2, np.float32), name)
    onnx.external_data_helper.set_external_data(made, "weights.bin", offset=0, length=8)
    made.ClearField("raw_data")
    made.data_location = onnx.TensorProto.EXTERNAL
    return made


def graph(nodes: list, initializers: list = (), sparse: list = ()) -> onnx.GraphProto:  # type: ignore[assignment,type-arg]
    return helper.make_graph(
        nodes, "g", [], [], initializer=list(initializers), sparse_initializer=list(sparse)
    )


def in_an_initializer() -> onnx.ModelProto:
    return helper.make_model(graph([], [tensor()]))


def in_an_attribute() -> onnx.ModelProto:
    return helper.make_model(graph([helper.make_node("Constant", [], ["w"], value=tensor())]))


def in_a_branch() -> onnx.ModelProto:
    branch = graph([], [tensor()])
    return helper.make_model(graph([helper.make_node("If", ["c"], ["w"], then_branch=branch)]))


def in_a_function() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["w"], value=tensor())
    function = helper.make_function("d", "F", [], ["w"], [node], [])
    return helper.make_model(graph([]), functions=[function])


def in_a_sparse_tensor() -> onnx.ModelProto:
    indices = numpy_helper.from_array(np.zeros(2, np.int64), "i")
    return helper.make_model(graph([], sparse=[helper.make_sparse_tensor(tensor(), indices, [4])]))


def in_an_engine() -> onnx.ModelProto:
    return helper.make_model(graph([helper.make_node("EPContext", [], ["w"])]))


@pytest.mark.parametrize(
    "make",
    [
        in_an_initializer,
        in_an_attribute,
        in_a_branch,
        in_a_function,
        in_a_sparse_tensor,
        in_an_engine,
    ],
)
def test_what_lies_outside_of_the_digest_is_refused(
    make: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(ModelError, match="digest does not cover"):
        require_self_contained(path)
    with pytest.raises(ModelError, match="digest does not cover"):
        Session.open(path)


def test_a_shipped_model_whose_weights_were_moved_out(tmp_path: Path) -> None:
    model = onnx.load(SHIPPED_MODEL)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    assert (tmp_path / "weights.bin").stat().st_size
    with pytest.raises(ModelError, match="digest does not cover"):
        Session.open(path)


def test_models_of_one_piece_pass() -> None:
    require_self_contained(SHIPPED_MODEL)


@pytest.mark.parametrize(
    "content", [b"\x08", b"\x3b\x3c", b"\x3a\xff\xff\xff\x7f", b"\xff" * 11, b"\x38\x01"]
)
def test_what_is_no_protobuf_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        require_self_contained(path)
