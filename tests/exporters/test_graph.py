import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exporters.errors import GraphError
from exporters.graph import OPSET, fingerprint, require_valid, trace
from exporters.publish import Candidate


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_graph_has_a_dynamic_waveform_and_plain_ops(candidate: Candidate) -> None:
    graph = candidate.graph.graph
    assert [(value.name, _shape(value)) for value in graph.input] == [
        ("waveform", ["batch", "samples"])
    ]
    assert [(value.name, _shape(value)) for value in graph.output] == [("embedding", ["batch", 24])]
    assert {node.domain for node in graph.node} == {""}
    assert [entry.version for entry in candidate.graph.opset_import] == [OPSET]


def test_equal_weights_are_stored_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = torch.randn(64, 64)
            self.left, self.right = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
            self.left.weight.data, self.right.weight.data = weight, weight.clone()

        def forward(self, waveform: Tensor) -> Tensor:
            both: Tensor = self.left(waveform[:, :64]).relu() + self.right(waveform[:, 64:128])
            return both

    assert trace(Twice(), torch.randn(2, 200)).ByteSize() < 2 * 64 * 64 * 4


def test_fingerprint_is_stable_and_sees_weights_and_nodes(
    tiny: nn.Module, candidate: Candidate
) -> None:
    again = trace(tiny, torch.randn(1, 9000))
    assert fingerprint(again) == fingerprint(candidate.graph)
    other_weight = _copy(candidate.graph)
    tensor = other_weight.graph.initializer[0]
    changed = onnx.numpy_helper.to_array(tensor).copy()
    changed.flat[0] = np.nextafter(changed.flat[0], 2)
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
    other_node = _copy(candidate.graph)
    next(node for node in other_node.graph.node if node.op_type == "Relu").op_type = "Tanh"
    ids = {fingerprint(model) for model in (candidate.graph, other_weight, other_node)}
    assert len(ids) == 3


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def test_a_model_that_onnx_cannot_express_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, waveform: Tensor) -> Tensor:
            odd: Tensor = torch.special.bessel_j0(waveform)
            return odd

    with pytest.raises(GraphError, match="cannot be written as ONNX"):
        trace(Odd(), torch.randn(1, 100))


def test_weights_outside_the_file_are_refused(candidate: Candidate) -> None:
    model = _copy(candidate.graph)
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(GraphError, match="stored outside the file"):
        require_valid(model)


def test_an_invalid_graph_is_refused(candidate: Candidate) -> None:
    model = _copy(candidate.graph)
    del model.graph.node[3:]
    with pytest.raises(GraphError, match="not a valid ONNX model"):
        require_valid(model)
