"""Countermeasures of `sayso-train countermeasure`, as ONNX graphs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from exporters.errors import CheckpointError, ParityError
from exporters.graph import INPUT, require_valid, trace_part
from training.countermeasure import train
from training.errors import TrainingError

LOGIT = "logit"
PROVENANCE_KEY = "sayso.countermeasure"
LARGEST_DIFFERENCE = 1e-4


def make_graph(checkpoint: Path) -> onnx.ModelProto:
    """Trace `waveform (batch, window_samples)` to the `logit (batch,)` of bona fide speech.

    The metadata has the attacks, clips and digest of the training data. Raises CheckpointError for
    another file, ParityError if the graph's logits are not PyTorch's.
    """
    try:
        recipe, network, provenance = train.load_network(checkpoint)
    except TrainingError as error:
        raise CheckpointError(str(error)) from error
    rng = np.random.default_rng(0)
    waveforms = 0.1 * rng.standard_normal((3, recipe.window_samples), np.float32)
    graph = require_valid(
        trace_part(
            network,
            torch.from_numpy(waveforms[:2]),
            axes={INPUT: {0: "batch"}, LOGIT: {0: "batch"}},
        )
    )
    told = {"rate_hz": recipe.sample_rate_hz, **asdict(provenance)}
    onnx.helper.set_model_props(graph, {PROVENANCE_KEY: json.dumps(told, sort_keys=True)})
    with torch.no_grad():
        expected = network(torch.from_numpy(waveforms)).numpy()
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    difference = float(np.abs(session.run(None, {INPUT: waveforms})[0] - expected).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ParityError(f"the graph's logits are off by {difference:g}")
    return graph
