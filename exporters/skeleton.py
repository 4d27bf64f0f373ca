"""A published architecture as a graph without weights, which an installed service fills.

    random encoder ─ trace ─> ONNX ─ each weight's recipe found by its value ─> skeleton

`service.adoption.skeleton` has the recipes and fills the graph; `make skeletons` writes the files.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from exporters import model_file
from exporters.errors import GraphError
from exporters.graph import trace
from exporters.voices import synthesize_voice
from service.adoption import skeleton
from training import frontends
from training.encoders import SpeakerEncoder
from training.encoders.campplus import CamPlusPlus

RATE, MELS = 16000, 80
OUTPUT = Path(__file__).resolve().parents[1] / "models" / "campplus.graph.gz"

Weights = Mapping[str, NDArray[np.float32]]
Recipe = tuple[str, ...]
Made = tuple[Recipe, NDArray[np.float32]]
"""A recipe, and the values that it gives."""


def build_encoder(seed: int, embedding_dim: int = 192) -> CamPlusPlus:
    """Build 3D-Speaker's CAM++ with random weights, and batch norms that change what they get."""
    torch.manual_seed(seed)
    encoder = CamPlusPlus(mels=MELS, embedding_dim=embedding_dim, layout="3d-speaker").eval()
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                randomize_norm(module)
    return encoder


def randomize_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Draw statistics and, if it has them, scale and bias."""
    assert norm.eps == np.float64(1e-5)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(0, 0.1)
    norm.running_var.uniform_(0.5, 2)
    if norm.affine:
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.1)


def make_skeleton() -> bytes:
    """Make the graph of 3D-Speaker's CAM++, waveform to embedding, without weights.

    Raises `GraphError` if a value in it depends on the weights in a way that no recipe tells.
    """
    graph, other = (_strip(*_trace(build_encoder(seed))) for seed in (1, 2))
    if graph != other:
        raise GraphError("a constant of the graph depends on the weights")
    return graph


def _trace(encoder: nn.Module) -> tuple[onnx.ModelProto, Weights]:
    whole = SpeakerEncoder(frontends.three_d_speaker(RATE, MELS), encoder)
    example = synthesize_voice(0, rate=RATE, samples=2 * RATE)
    graph = trace(whole, torch.from_numpy(example).repeat(2, 1))
    state = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    return graph, state


def _strip(graph: onnx.ModelProto, state: Weights) -> bytes:
    """Put a recipe in the place of each weight's values."""
    recipes = find_recipes(graph, state)
    for tensor in graph.graph.initializer:
        if tensor.name in recipes:
            tensor.ClearField("raw_data")
            tensor.doc_string = recipes[tensor.name]
    for node in graph.graph.node:
        node.ClearField("doc_string")
    return bytes(graph.SerializeToString(deterministic=True))


def find_recipes(graph: onnx.ModelProto, state: Weights) -> dict[str, str]:
    """Find for each weight of `graph` the recipe that gives its values; constants have none."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    simple = [*_list_copies(state), *_list_shifts(state)]
    found = {name: recipe for name, value in values.items() if (recipe := _find(value, simple))}
    for node in graph.graph.node:
        kind, *names = found.get(_get_bias(node), ("",))
        if kind == "shift":
            scaled = _find(values[node.input[1]], _list_scales(state, *names))
            if scaled is None:
                raise GraphError(f"no weight, scaled by {names[0]}, is the one before it")
            found[node.input[1]] = scaled
    return {name: " ".join(recipe) for name, recipe in found.items()}


def _get_bias(node: onnx.NodeProto) -> str:
    return node.input[2] if node.op_type == "Conv" and len(node.input) == 3 else ""


def _find(value: NDArray[np.float32], recipes: Iterable[Made]) -> Recipe | None:
    """Find the recipe that gives `value`.

    The last bits may differ, as PyTorch's square root is not rounded correctly.
    """
    for recipe, made in recipes:
        if made.shape == value.shape and np.allclose(made, value, rtol=1e-5, atol=1e-7):
            return recipe
    return None


def _list_copies(state: Weights) -> Iterator[Made]:
    for name, value in state.items():
        if value.dtype == np.float32:
            yield ("copy", name), value


def _list_shifts(state: Weights) -> Iterator[Made]:
    for name in state:
        norm = name.removesuffix(".running_var")
        if norm != name and f"{norm}.weight" in state:
            yield ("shift", norm), skeleton.shift(state, norm)


def _list_scales(state: Weights, norm: str) -> Iterator[Made]:
    channels = len(state[f"{norm}.weight"])
    for name, value in state.items():
        if value.ndim > 1 and len(value) == channels:
            yield ("scale", name, norm), skeleton.scale(state, name, norm)


def main() -> None:
    """Write the skeleton among the models; the same graph gives the same file."""
    model_file.write_atomically(OUTPUT, gzip.compress(make_skeleton(), 9, mtime=0))


if __name__ == "__main__":
    main()
