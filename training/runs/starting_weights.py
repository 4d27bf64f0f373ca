"""Weights that a run can begin with: another run's checkpoint, a model file, a published encoder.

RUN/best.pt    ours: a `Checkpoint`, with the losses that it learned
model.onnx     ours or an adopted one: the weights in the graph, by name
published.pt   another toolkit's, of the encoder and layout that the recipe names
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from training.encoders import SpeakerEncoder, names, published
from training.errors import CheckpointError
from training.runs import checkpoint
from training.runs.checkpoint import Checkpoint

MODEL_FILE = ".onnx"


def read(path: Path) -> Checkpoint | Path:
    """Read a checkpoint of this project; of anything else, return the path itself, because its
    weights depend on the recipe's encoder. Raises CheckpointError if it cannot be read."""
    if path.suffix == MODEL_FILE:
        return path
    content = published.read(path)
    return checkpoint.load(path) if checkpoint.is_ours(content) else path


def load_into(encoder: SpeakerEncoder, path: Path) -> None:
    """Take over the weights of the model file or published checkpoint at `path`.

    Batch norm's step counters, which no graph has, stay as they are. Raises CheckpointError when
    the file cannot be read, or holds another encoder.
    """
    if path.suffix == MODEL_FILE:
        _fill_from_graph(encoder, path)
    else:
        kind = type(encoder.encoder).__name__
        published.fill(encoder.encoder, published.read_encoder(path), architecture=kind)


def _fill_from_graph(encoder: nn.Module, path: Path) -> None:
    try:
        graph = onnx.load(path).graph
    except (OSError, DecodeError) as error:
        raise CheckpointError(f"{path} is no readable model file: {error}") from error
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    stored = names.translate_below(
        {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, "encoder."
    )
    weights: dict[str, Tensor] = {}
    for name, wanted in encoder.state_dict().items():
        if name.endswith(published.COUNTER):
            weights[name] = wanted
        elif name not in stored or stored[name].shape != wanted.shape:
            raise CheckpointError(
                f"{path} holds another encoder: it lacks {name} as the recipe has it"
            )
        else:
            weights[name] = stored[name]
    encoder.load_state_dict(weights)
