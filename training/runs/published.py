"""The weights of a model file: where a run can begin that has the published model alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor

from training.errors import CheckpointError

SUFFIX = ".onnx"
COUNTER = "num_batches_tracked"


def encoder_weights(path: Path, encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's state as the graph at `path` holds it, by the names and shapes of `encoder`.

    Batch norm's step counters, which no graph has, are kept as they are. Raises CheckpointError
    when the file is no ONNX model, or one of another encoder.
    """
    try:
        graph = onnx.load(path).graph
    except (OSError, DecodeError) as error:
        raise CheckpointError(f"{path} is no readable model file: {error}") from error
    held = {tensor.name: tensor for tensor in graph.initializer}
    weights = {}
    for name, wanted in encoder.items():
        if name.endswith(COUNTER):
            weights[name] = wanted
        elif name not in held or tuple(held[name].dims) != tuple(wanted.shape):
            raise CheckpointError(
                f"{path} holds another encoder: it lacks {name} as the recipe has it"
            )
        else:
            weights[name] = torch.from_numpy(np.array(numpy_helper.to_array(held[name])))
    return weights
