"""Multiply-accumulate operations of a graph, counted on the shapes that it really has."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime

from exporters.graph import INPUT

_COUNTED = ("Conv", "MatMul", "Gemm", "LSTM")


def count_macs(model: onnx.ModelProto, samples: int) -> int:
    """Count the multiply-accumulates for one waveform of `samples`.

    Convolutions, matrix products and LSTMs are counted, front end included; the rest is negligible.
    """
    shapes = _shapes(model, samples)
    return sum(_of(node, shapes) for node in model.graph.node if node.op_type in _COUNTED)


def _shapes(model: onnx.ModelProto, samples: int) -> dict[str, tuple[int, ...]]:
    """The shapes, by name, of the weights and of every input and output of the counted nodes."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes[INPUT] = (1, samples)
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    wanted = {
        name
        for node in model.graph.node
        if node.op_type in _COUNTED
        for name in (*node.input[:2], node.output[0])
        if name and name not in shapes
    }
    wanted -= {value.name for value in model.graph.output}
    for name in sorted(wanted):
        seen.graph.output.add().name = name
    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        seen.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    outputs = session.run(names, {INPUT: np.full((1, samples), 0.1, np.float32)})
    return shapes | {name: array.shape for name, array in zip(names, outputs, strict=True)}


def _of(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    left, right = shapes[node.input[0]], shapes[node.input[1]]
    if node.op_type == "LSTM":
        frames, batch, _ = left
        directions, gates, inputs = right
        return frames * batch * directions * gates * (inputs + gates // 4)
    outputs = prod(shapes[node.output[0]])
    if node.op_type == "Conv":
        return outputs * prod(right[1:])
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    return outputs * (left[0] if attributes.get("transA") else left[-1])
