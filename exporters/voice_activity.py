"""The graph of Silero's voice activity with its arithmetic in another order: a third of the time.

    frames (n, 576) > 4 hops of 256 > DFT > magnitudes > 4 convolutions > LSTM > (n,)

    python -m exporters.voice_activity   writes service/audio/voice_activity.onnx, without weights

Silero's own graph convolves five columns at a time, each frame apart, and drops one. Here a
convolution is one product of all frames: its taps are laid side by side, and those that meet only
padding are left out. A row of a product does not depend on the others, so that any chunking of the
frames still gives the same bits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.audio import voice_activity
from service.audio.speech import CONTEXT_SAMPLES, FRAME_SAMPLES

_OPSET, _IR_VERSION = 17, 9
_HOP = 128
_BINS = 129
_WIDTH = 128
_STATE = [1, 1, _WIDTH]

Floats = NDArray[np.float32]


def make_graph(weights: Mapping[str, Floats]) -> onnx.ModelProto:
    """Make the graph, with the inputs and outputs of Silero's; `weights` are named, and given when
    it is loaded."""
    net = _Graph(weights)
    _probabilities(net, _encode(net, _magnitudes(net)))
    state = [(name, _STATE) for name in ("h", "c")]
    whole = helper.make_graph(
        net.nodes,
        "voice activity",
        _floats([("input", ["n", CONTEXT_SAMPLES + FRAME_SAMPLES]), *state]),
        _floats([("speech_probs", ["n"]), *((f"{name}n", _STATE) for name in ("h", "c"))]),
        net.constants,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(
        whole, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="sayso"
    )


class _Graph:
    """Collects nodes in order; each has one output, named by its number."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants = [_omit_values(name, values) for name, values in weights.items()]

    def __call__(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        out = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def constant(self, values: Sequence[int]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def slice_axis(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        return self("Slice", x, *(self.constant([value]) for value in (start, end, axis, step)))

    def join_slices(self, x: str, *parts: tuple[int, int, int]) -> str:
        """Slices (start, end, step) of the columns, joined along the last axis."""
        return self("Concat", *(self.slice_axis(x, 1, *part) for part in parts), axis=2)

    def dense(self, x: str, weight: str, bias: str) -> str:
        return self("Add", self("MatMul", x, weight), bias)


def _magnitudes(net: _Graph) -> str:
    """(n, 576) to (n, 4, 129): a frame's end is mirrored to fill the last of four hops."""
    mirrored = net("Pad", "input", net.constant([0, 0, 0, CONTEXT_SAMPLES]), mode="reflect")
    hops = net("Reshape", mirrored, net.constant([-1, 5, _HOP]))
    spectrum = net("MatMul", net.join_slices(hops, (0, 4, 1), (1, 5, 1)), "dft")
    parts = [net.slice_axis(spectrum, 2, start, start + _BINS) for start in (0, _BINS)]
    return net("Sqrt", net("Add", *(net("Mul", part, part) for part in parts)))


def _encode(net: _Graph, x: str) -> str:
    """(n, 4, 129) to (n, 128): 4 columns, then 2, then 1."""

    def layer(x: str, number: int) -> str:
        return net("Relu", net.dense(x, f"layer{number}", f"bias{number}"))

    padded = net("Pad", x, net.constant([0, 1, 0, 0, 1, 0]))
    x = layer(net.join_slices(padded, (0, 4, 1), (1, 5, 1), (2, 6, 1)), 0)
    padded = net("Pad", x, net.constant([0, 1, 0, 0, 0, 0]))
    x = layer(net.join_slices(padded, (0, 3, 2), (1, 4, 2), (2, 5, 2)), 1)
    return layer(layer(net("Reshape", x, net.constant([-1, _WIDTH])), 2), 3)


def _probabilities(net: _Graph, features: str) -> None:
    """(n, 128) to the outputs of the model."""
    sequence = net("Unsqueeze", features, net.constant([1]))
    tensors = ("lstm_input", "lstm_hidden", "lstm_bias")
    net.nodes.append(
        helper.make_node(
            "LSTM", [sequence, *tensors, "", "h", "c"], ["y", "hn", "cn"], hidden_size=_WIDTH
        )
    )
    rectified = net("Relu", net("Squeeze", "y", net.constant([1, 2])))
    score = net("Sigmoid", net.dense(rectified, "score", "score_bias"))
    net("Reshape", score, net.constant([-1]), out="speech_probs")


def _omit_values(name: str, values: Floats) -> onnx.TensorProto:
    """A tensor whose values are given to the session that loads the graph."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="given")
    return tensor


def _floats(named: Sequence[tuple[str, Sequence[str | int]]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in named]


def main() -> None:
    arranged = voice_activity.arrange(
        voice_activity.read_weights(voice_activity.find_package_model())
    )
    voice_activity.GRAPH.write_bytes(make_graph(arranged).SerializeToString())


if __name__ == "__main__":
    main()
