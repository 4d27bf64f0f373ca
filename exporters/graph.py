"""From an `nn.Module` to a checked ONNX graph with a dynamic batch and length."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from exporters.errors import GraphError

OPSET = 18
INPUT, OUTPUT = "waveform", "embedding"
TOOLS = {
    "onnx": onnx.__version__,
    "onnxruntime": onnxruntime.__version__,
    "torch": torch.__version__,
}


def trace(model: nn.Module, example: Tensor) -> onnx.ModelProto:
    """Trace `model` in evaluation mode as plain ONNX ops: `waveform (batch, samples)` to
    `embedding (batch, dim)`, constants folded, equal weights stored once.

    The TorchScript exporter is used because it takes half a second where the newer one takes
    sixteen, keeps an LSTM one node, and its graphs run faster; that it generalized from `example`
    is for the parity gate to show. Raises `GraphError` when the model cannot be expressed.
    """
    axes = {INPUT: {0: "batch", 1: "samples"}, OUTPUT: {0: "batch"}}
    graph = trace_part(model, example, axes=axes)
    with torch.no_grad():
        dimension = model(example).shape[1]
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = dimension
    return require_valid(graph)


def trace_part(
    model: nn.Module, example: Tensor, *, axes: Mapping[str, dict[int, str]], version: int = OPSET
) -> onnx.ModelProto:
    """Trace `model` as ONNX; `axes` names its input, then its outputs, with their dynamic axes."""
    buffer: Any = io.BytesIO()  # the stubs know paths only
    source, *results = axes
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model.eval(),
                (example,),
                buffer,
                dynamo=False,
                opset_version=version,
                do_constant_folding=True,
                input_names=[source],
                output_names=results,
                dynamic_axes=dict(axes),
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            raise GraphError(f"the model cannot be written as ONNX: {error}") from error
    return _lift_constants(onnx.load_model_from_string(buffer.getvalue()))


def _lift_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the constants of `model` among its weights, and store equal weights once."""
    graph = model.graph
    constants = [node for node in graph.node if node.op_type == "Constant"]
    for node in constants:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)
    first: dict[bytes, str] = {}
    same = {
        tensor.name: first.setdefault(_value(tensor), tensor.name) for tensor in graph.initializer
    }
    unique = [tensor for tensor in graph.initializer if same[tensor.name] == tensor.name]
    del graph.initializer[:]
    graph.initializer.extend(unique)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    return model


def _value(tensor: onnx.TensorProto) -> bytes:
    """The type, shape and bytes of a tensor: two tensors that agree in these are stored once."""
    shape = str((tensor.data_type, tuple(tensor.dims))).encode()
    return shape + onnx.numpy_helper.to_array(tensor).tobytes()


def require_valid(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` if it is valid ONNX that holds all of its weights; raises `GraphError`."""
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise GraphError(
                f"weight {tensor.name} is stored outside the file; save the model as one file"
            )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"not a valid ONNX model: {error}") from error
    return model


def read_opset(model: onnx.ModelProto) -> int:
    """Read the version of ONNX that `model` is in; raises `GraphError` for other operators."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    others = sorted(domain for domain in versions if domain not in {"", "ai.onnx"})
    if others:
        raise GraphError(f"the model uses operators outside ONNX: {', '.join(others)}")
    return int(versions.get("", versions.get("ai.onnx", 0)))


def fingerprint(model: onnx.ModelProto) -> str:
    """Hash the weights (names and bytes, sorted by name) and the nodes: hex SHA-256.

    Two files share it only if they compute the same embedding from the same waveform.
    """
    digest = hashlib.sha256()
    for part in _essence(model.graph):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _essence(graph: onnx.GraphProto) -> Iterator[bytes]:
    for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name):
        yield tensor.name.encode()
        yield _value(tensor)
    for node in graph.node:
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        bare.ClearField("name")
        bare.ClearField("doc_string")
        yield bare.SerializeToString(deterministic=True)
