"""ONNX files that start at features: the front end they were trained with, put before them.

    waveform ─ front end ─> features (and their number) ─ the file's own graph ─ unit length

What the features are is read from the file's metadata (as sherpa-onnx writes it) or its names;
which axis is which, and whether it counts frames, from its shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import compose
from torch import Tensor, nn
from torch.nn import functional

from exporters import model_file
from exporters.errors import GraphError
from exporters.graph import INPUT, OUTPUT, read_opset, require_valid, trace_part
from exporters.parity import Embed, Floats
from exporters.publish import Candidate, Windows
from exporters.voices import synthesize_voice
from service.decisions.scoring import l2_normalize
from training import frontends
from training.errors import first_line

Features = Literal["wespeaker", "3d-speaker", "nemo"]
_FEATURES, _LENGTHS, _OWN = "features", "lengths", "peer/"
_PLAUSIBLE_MELS = (24, 30, 40, 60, 64, 72, 80, 96, 128)
_OPSETS = range(11, 21)
_DEFAULT_RATE = 16000


_KINDS: tuple[Features, ...] = get_args(Features)


@dataclass(frozen=True, slots=True)
class Peer:
    """Inputs and outputs of a graph that starts at features, and which axis holds its `mels`."""

    features: Features
    rate: int
    mels: int
    mels_first: bool
    input: str
    lengths: str | None
    output: str
    metadata: Mapping[str, str]


class FrontEnd(nn.Module):
    """waveform (batch, samples) -> features in the peer's layout, and frames (batch,) if asked."""

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.features = frontends.PUBLISHED[peer.features](peer.rate, peer.mels)
        self.transposed = not peer.mels_first
        self.frame_axis = 2 if peer.mels_first else 1
        self.counted = peer.lengths is not None

    def forward(self, waveform: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features: Tensor = self.features(waveform)
        if self.transposed:
            features = features.transpose(1, 2)
        if not self.counted:
            return features
        ones = torch.ones_like(features[:, 0, 0], dtype=torch.int64)
        return features, ones * features.shape[self.frame_axis]


class _Unit(nn.Module):
    def forward(self, embedding: Tensor) -> Tensor:
        return functional.normalize(embedding.flatten(1), dim=1)


def make_candidate(path: Path, features: Features | None = None) -> Candidate:
    """Join the ONNX file at `path` to its front end; `features` replaces what its metadata says.

    Raises `GraphError` if it does not start at features, if its features are unknown, or if it runs
    only at the shape that it was exported at.
    """
    graph = model_file.read_graph(path)
    peer = inspect(graph, features)
    whole = graft(graph, peer)
    return Candidate(
        name=_slug(path.stem),
        graph=whole,
        original=_original(graph, peer),
        rate=peer.rate,
        windows=Windows(),
        provenance={
            "source": peer.metadata.get("url", path.name),
            "features": peer.features,
            "metadata": dict(peer.metadata),
        },
    )


def inspect(model: onnx.ModelProto, features: Features | None = None) -> Peer:
    """Read from metadata, names and shapes what `model` takes and gives; raises `GraphError`."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    matrices = [value for value in inputs if _is(value, onnx.TensorProto.FLOAT, rank=3)]
    lengths = [value for value in inputs if _is(value, onnx.TensorProto.INT64, rank=1)]
    description = ", ".join(f"{value.name} {_dims(value)}" for value in inputs)
    if len(matrices) != 1 or len(matrices) + len(lengths) != len(inputs) or len(lengths) > 1:
        raise GraphError(f"the model takes {description}, not features (batch, frames, mels)")
    mels, mels_first = _layout(matrices[0])
    kind = features or _kind(metadata, matrices[0].name)
    rate = _number(metadata, "sample_rate", _DEFAULT_RATE)
    _check_metadata(kind, metadata)
    return Peer(
        features=kind,
        rate=rate,
        mels=mels,
        mels_first=mels_first,
        input=matrices[0].name,
        lengths=lengths[0].name if lengths else None,
        output=_output(model.graph),
        metadata=metadata,
    )


def _kind(metadata: Mapping[str, str], input_name: str) -> Features:
    framework = metadata.get("framework", "").lower()
    for kind in _KINDS:
        if framework == kind:
            return kind
    if not framework and input_name == "feats":
        return "wespeaker"
    if not framework and input_name == "audio_signal":
        return "nemo"
    raise GraphError(
        f"cannot tell what features the model wants (its framework is {framework or 'not named'}): "
        f"give --features, one of {', '.join(_KINDS)}"
    )


def _check_metadata(kind: Features, metadata: Mapping[str, str]) -> None:
    """Raise `GraphError` for features that no front end here computes."""
    wanted: Mapping[Features, Mapping[str, str]] = {
        "wespeaker": {"normalize_samples": "0"},
        "3d-speaker": {"normalize_samples": "1", "feature_normalize_type": "global-mean"},
        "nemo": {
            "feature_normalize_type": "per_feature",
            "window_type": "hann",
            "window_size_ms": "25",
            "window_stride_ms": "10",
        },
    }
    for key, value in wanted[kind].items():
        if metadata.get(key, value) != value:
            raise GraphError(f"{kind} features with {key} {metadata[key]} are not supported")


def _layout(value: onnx.ValueInfoProto) -> tuple[int, bool]:
    """Read the number of mels, and whether they come before the frames."""
    _, first, second = _dims(value)
    plausible = [size in _PLAUSIBLE_MELS for size in (first, second)]
    if plausible == [False, True]:
        return int(second), False
    if plausible == [True, False]:
        return int(first), True
    raise GraphError(
        f"cannot tell mels from frames in the model's input {value.name} {_dims(value)}: one axis "
        f"must be of {', '.join(map(str, _PLAUSIBLE_MELS))} mels, and only one"
    )


def _output(graph: onnx.GraphProto) -> str:
    named = [value.name for value in graph.output if "emb" in value.name.lower()]
    if len(named) == 1:
        return named[0]
    if len(graph.output) == 1:
        return graph.output[0].name
    names = ", ".join(value.name for value in graph.output)
    raise GraphError(f"cannot tell which of the model's outputs is the embedding: {names}")


def graft(model: onnx.ModelProto, peer: Peer) -> onnx.ModelProto:
    """Join front end, `model` and normalization into one graph with dynamic batch and samples."""
    version = _supported_opset(model)
    frames = {0: "batch", 1: "a", 2: "b"}
    axes = {INPUT: {0: "batch", 1: "samples"}, _FEATURES: frames}
    joints = [(_FEATURES, _OWN + peer.input)]
    if peer.lengths is not None:
        axes[_LENGTHS] = {0: "batch"}
        joints.append((_LENGTHS, _OWN + peer.lengths))
    example = torch.from_numpy(synthesize_voice(0, rate=peer.rate, samples=peer.rate)).repeat(2, 1)
    front = trace_part(FrontEnd(peer), example, axes=axes, version=version)
    unit_axes = {"raw": {0: "batch", 1: "dim"}, OUTPUT: {0: "batch"}}
    unit = trace_part(_Unit(), torch.ones(2, 3), axes=unit_axes, version=version)
    body = _clear_sizes(compose.add_prefix(model, _OWN))
    del body.metadata_props[:]
    for part in (front, body, unit):
        part.ir_version = max(front.ir_version, body.ir_version)
    try:
        joined = compose.merge_models(front, body, joints, outputs=[_OWN + peer.output])
        tail = compose.add_prefix(unit, "unit/", rename_outputs=False)
        whole = compose.merge_models(joined, tail, [(_OWN + peer.output, "unit/raw")])
    except ValueError as error:
        raise GraphError(f"the front end does not fit the model: {first_line(error)}") from error
    return require_valid(_probe_dimension(whole, peer))


def _clear_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the sizes that `model` was exported at, so that shapes follow from its inputs."""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            axis.Clear()
    return model


def _probe_dimension(model: onnx.ModelProto, peer: Peer) -> onnx.ModelProto:
    """Run `model` on several shapes and fill in its dimension; raises `GraphError`."""
    session = _session(model)
    dimensions = set()
    for batch, seconds in ((1, 1.0), (2, 1.0), (3, 1.73)):
        waveforms = np.stack(
            [
                synthesize_voice(i, rate=peer.rate, samples=round(seconds * peer.rate))
                for i in range(batch)
            ]
        )
        try:
            embedding = session.run([OUTPUT], {INPUT: waveforms})[0]
        except Exception as error:  # ONNX Runtime's errors share no narrower base
            raise GraphError(
                f"the model does not run on a batch of {batch} of {seconds} s; it was exported at "
                f"a fixed shape, or takes other features ({first_line(error)})"
            ) from error
        if embedding.shape[0] != batch:
            raise GraphError(f"the model gives {embedding.shape} for a batch of {batch}")
        dimensions.add(embedding.shape[1])
    if len(dimensions) != 1:
        raise GraphError("the model's output grows with its input: it is no embedding")
    shape = model.graph.output[0].type.tensor_type.shape
    del shape.dim[:]
    shape.dim.add().dim_param = "batch"
    shape.dim.add().dim_value = dimensions.pop()
    return model


def _original(model: onnx.ModelProto, peer: Peer) -> Embed:
    """Run the file itself on features computed by PyTorch."""
    front, session = FrontEnd(peer).eval(), _session(model)

    def embed(waveforms: Floats) -> Floats:
        with torch.inference_mode():
            features = front(torch.from_numpy(np.ascontiguousarray(waveforms)))
        arrays = features if isinstance(features, tuple) else (features,)
        names = [peer.input, *([peer.lengths] if peer.lengths else [])]
        feed = {name: array.numpy() for name, array in zip(names, arrays, strict=True)}
        raw: Floats = session.run([peer.output], feed)[0]
        return l2_normalize(raw.reshape(len(raw), -1))

    return embed


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise GraphError(f"ONNX Runtime does not load the model: {first_line(error)}") from error


def _supported_opset(model: onnx.ModelProto) -> int:
    version = read_opset(model)
    if version not in _OPSETS:
        raise GraphError(
            f"the model has opset {version}; {_OPSETS.start} to {_OPSETS.stop - 1} are supported"
        )
    return version


def _is(value: onnx.ValueInfoProto, kind: int, *, rank: int) -> bool:
    return value.type.tensor_type.elem_type == kind and len(_dims(value)) == rank


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_value or axis.dim_param or "?" for axis in value.type.tensor_type.shape.dim]


def _number(metadata: Mapping[str, str], key: str, default: int) -> int:
    try:
        return int(float(metadata.get(key, default)))
    except ValueError as error:
        raise GraphError(f"the model's metadata has {key} {metadata[key]!r}") from error


def _slug(stem: str) -> str:
    slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in stem.lower()).strip("-")
    return slug[:48] or "adopted"
