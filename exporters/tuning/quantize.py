"""Smaller variants of a model file, and what they cost in accuracy.

fp16   weights stored in half precision, computed in single: half the file, the same speed
int8   convolutions and products of the encoder in 8 bits, ranges measured on speech; the
       front end stays as it is
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from exporters import model_file, parity
from exporters.errors import GraphError, ParityError
from exporters.graph import INPUT, require_valid
from exporters.voices import load_voices
from service.contract import Contract
from training.errors import first_line

Kind = Literal["fp16", "int8"]
FLOORS: Mapping[Kind, float] = {"fp16": 0.9999, "int8": 0.95}
"""The least cosine with the original, over recordings, below which nothing is written."""

_LEAST_ELEMENTS = 256
_VOICES = 32  # for the ranges, and as many others to compare on
_QUANTISED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Variant:
    """A quantized graph and its cosine with the original: least and mean over recordings."""

    kind: Kind
    graph: onnx.ModelProto
    least: float
    mean: float
    speech: str


def make_variant(
    graph: onnx.ModelProto,
    contract: Contract,
    kind: Kind,
    speech: Path | None,
    on_step: Callable[[str], None] = parity.ignore,
) -> Variant:
    """Quantize `graph` to `kind` and compare it on windows of speech; raises `ParityError` below
    the kind's floor."""
    on_step("reading speech")
    waveforms, speech_kind = load_voices(
        speech,
        rate=contract.sample_rate,
        samples=contract.window_samples,
        count=2 * _VOICES,
    )
    ranges, compared = waveforms[::2], waveforms[1::2]
    on_step(f"quantizing to {kind}")
    small = halve(graph) if kind == "fp16" else quantize_to_int8(graph, ranges)
    on_step(f"comparing with the original on {len(compared)} recordings")
    cosines = _measure_cosines(graph, small, compared)
    if cosines.min() < FLOORS[kind]:
        raise ParityError(
            f"as {kind} the model drifts: cosine {cosines.min():.4f} with itself on {speech_kind}, "
            f"at least {FLOORS[kind]} is needed; nothing was written"
        )
    return Variant(kind, small, float(cosines.min()), float(cosines.mean()), speech_kind)


def _measure_cosines(
    left: onnx.ModelProto, right: onnx.ModelProto, waveforms: parity.Floats
) -> NDArray[np.float64]:
    one, other = (
        np.concatenate([embed(row[None]) for row in waveforms]).astype(np.float64)
        for embed in (parity.graph_embed(left), parity.graph_embed(right))
    )
    cosines: NDArray[np.float64] = (one * other).sum(axis=1)
    return cosines


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the encoder's large weights as float16 and cast them where they are used."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    casts = []
    before = set(find_front_end_nodes(small))
    whole = {name for node in small.graph.node if node.name in before for name in node.input}
    for tensor in small.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if tensor.name in whole or array.dtype != np.float32 or array.size < _LEAST_ELEMENTS:
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.isfinite(half).all():
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=1))
    nodes = [*casts, *small.graph.node]
    del small.graph.node[:]
    small.graph.node.extend(nodes)
    return require_valid(small)


def quantize_to_int8(model: onnx.ModelProto, waveforms: parity.Floats) -> onnx.ModelProto:
    """Compute the encoder in 8 bits, activations scaled by their ranges on `waveforms`.

    Weights use 7 of the 8 bits: processors without VNNI add two products in 16 bits, which
    overflow.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, output = (Path(folder) / f"{i}.onnx" for i in range(3))
        source.write_bytes(model.SerializeToString())
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                output,
                _Rows(waveforms),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED),
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=find_front_end_nodes(onnx.load_model(prepared)),
                extra_options={"ActivationSymmetric": False, "CalibTensorRangeSymmetric": False},
            )
        except Exception as error:  # the quantizer's errors share no narrower base
            raise GraphError(f"the model cannot be quantized: {first_line(error)}") from error
        return require_valid(onnx.load_model(output))


class _Rows(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, waveforms: parity.Floats) -> None:
        self._rows: Iterator[Any] = iter(waveforms)

    def get_next(self) -> dict[str, Any] | None:
        row = next(self._rows, None)
        return None if row is None else {INPUT: row[None]}


def find_front_end_nodes(model: onnx.ModelProto) -> list[str]:
    """Find the names of the Fourier convolution and the mel product.

    They come before any other product, and 8 bits would spoil them.
    """
    return [node.name for node in model.graph.node if node.op_type in _QUANTISED][:2]


def publish(
    source: Path,
    kind: Kind,
    output: Path,
    *,
    speech: Path | None = None,
    on_step: Callable[[str], None] = parity.ignore,
) -> tuple[Contract, Variant]:
    """Write the `kind` of the model file `source` to `output`, with its cost in its provenance.

    The variant has a model id of its own. A calibration goes with it only if every cosine with
    the original is at least that of fp16; otherwise it has to be fitted again.
    """
    graph, contract = model_file.read(source)
    small = make_variant(graph, contract, kind, speech, on_step)
    keeps = small.least >= FLOORS["fp16"]
    name = contract.model_id.rsplit("-", 1)[0].removesuffix(f"-{kind}")
    renamed = dataclasses.replace(
        contract,
        model_id=model_file.make_model_id(f"{name}-{kind}", small.graph),
        calibration=contract.calibration if keeps else None,
        operating_point=contract.operating_point if keeps else None,
        cohort=contract.cohort if keeps else None,
        evaluation={},
        provenance={
            **contract.provenance,
            "quantised": {
                "kind": kind,
                "from": contract.model_id,
                "bytes": [graph.ByteSize(), small.graph.ByteSize()],
                "least_cosine": round(small.least, 7),
                "mean_cosine": round(small.mean, 7),
                "speech": small.speech,
            },
        },
    )
    model_file.write(output, small.graph, renamed)
    return renamed, small
