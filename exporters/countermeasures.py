"""The last step of every export of a countermeasure: graph, parity gate, contract, file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from exporters import model_file
from exporters.errors import ParityError
from exporters.graph import INPUT, TOOLS, read_opset, require_valid, trace_part
from exporters.parity import Floats, graph_embed, ignore, module_embed
from exporters.voices import load_voices, synthesize_voice
from service.contract import CountermeasureContract

LOGIT = "logit"
LARGEST_DIFFERENCE = 1e-4
_VOICES = 5
_BATCHES = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class CountermeasureCandidate:
    """A network from `waveform (batch, window_samples)` at `rate` hertz to the logit of bona fide
    speech `(batch,)`, and what its contract will say."""

    name: str
    network: nn.Module
    rate: int
    window_samples: int
    hop_samples: int
    provenance: Mapping[str, Any] = field(default_factory=dict)


def publish(
    candidate: CountermeasureCandidate,
    output: Path,
    *,
    speech: Path | None = None,
    on_step: Callable[[str], None] = ignore,
) -> CountermeasureContract:
    """Write `candidate` to `output` if its graph gives PyTorch's logits, and return its contract,
    without a calibration: nothing has been measured. Raises `ParityError`.
    """
    on_step("tracing")
    graph = trace(candidate)
    on_step("comparing with the original")
    parity = gate(candidate, graph, speech)
    contract = CountermeasureContract(
        model_id=model_file.make_model_id(candidate.name, graph),
        sample_rate=candidate.rate,
        window_samples=candidate.window_samples,
        hop_samples=candidate.hop_samples,
        provenance={
            **candidate.provenance,
            "tools": {"opset": read_opset(graph), **TOOLS},
            "parity": parity,
        },
    )
    on_step(f"writing {output}")
    model_file.write(output, graph, contract)
    return contract


def trace(candidate: CountermeasureCandidate) -> onnx.ModelProto:
    """Trace the network for windows of its own length in batches of any size."""
    voice = synthesize_voice(0, rate=candidate.rate, samples=candidate.window_samples)
    axes = {INPUT: {0: "batch"}, LOGIT: {0: "batch"}}
    example = torch.from_numpy(voice).repeat(2, 1)
    return require_valid(trace_part(candidate.network, example, axes=axes))


def gate(
    candidate: CountermeasureCandidate, graph: onnx.ModelProto, speech: Path | None = None
) -> dict[str, object]:
    """Measure the largest difference of a logit in batches of several sizes from PyTorch's one by
    one, for the contract's provenance; raises `ParityError` if it is above 0.0001."""
    waveforms, kind = load_voices(
        speech, rate=candidate.rate, samples=candidate.window_samples, count=_VOICES
    )
    run, original = graph_embed(graph, output=LOGIT), module_embed(candidate.network)
    expected = np.concatenate([original(row[None]) for row in waveforms])
    differences = [_compare(run, waveforms, expected, batch) for batch in _BATCHES]
    largest = max(differences)
    if not largest <= LARGEST_DIFFERENCE:
        raise ParityError(
            f"the graph's logits are off by {largest:g} on {kind}, at most {LARGEST_DIFFERENCE:g} "
            "is allowed; nothing was written"
        )
    return {"logit_difference": largest, "batches": list(_BATCHES), "speech": kind}


def _compare(
    run: Callable[[Floats], Floats], waveforms: Floats, expected: Floats, batch: int
) -> float:
    """The largest difference at this batch size; infinite if a logit is not finite."""
    logits = np.concatenate(
        [run(waveforms[i : i + batch]) for i in range(0, len(waveforms), batch)]
    )
    if logits.shape != expected.shape:
        raise ParityError(f"the graph returns {logits.shape}, PyTorch {expected.shape}")
    difference = float(np.abs(logits - expected).max())
    return difference if np.isfinite(difference) else np.inf
