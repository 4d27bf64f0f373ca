"""The parity gate: a graph is written only if it gives its original's embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from exporters.errors import GraphError, ParityError
from exporters.graph import INPUT, OUTPUT

FLOOR = 0.99999
_NORM_TOLERANCE = 1e-3

Floats = NDArray[np.float32]
Embed = Callable[[Floats], Floats]
"""Waveforms `(batch, samples)` to embeddings `(batch, dim)`."""


def ignore(step: str) -> None:
    """Take the name of a step and show it to nobody."""


@dataclass(frozen=True, slots=True)
class Case:
    """The least cosine over the rows of one shape."""

    batch: int
    samples: int
    cosine: float


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate measured: one case for each shape, and on which speech."""

    cases: tuple[Case, ...]
    speech: str

    @property
    def cosine(self) -> float:
        return min(case.cosine for case in self.cases)

    def record(self) -> dict[str, object]:
        """The figures as the contract's provenance stores them."""
        shapes = [[case.batch, case.samples] for case in self.cases]
        return {"cosine": round(self.cosine, 7), "shapes": shapes, "speech": self.speech}


def check(
    graph: Embed,
    original: Embed,
    waveforms: Floats,
    *,
    lengths: Sequence[int],
    batches: Sequence[int] = (1, 2, 5),
    speech: str = "real speech",
    floor: float = FLOOR,
    on_step: Callable[[str], None] = ignore,
) -> Parity:
    """Compare `graph` with `original` on `waveforms (n, samples)`.

    The waveforms are cut to each of `lengths` and stacked by each of `batches`; the original runs
    them one by one. Raises `ParityError` with the figures if a cosine is below `floor`, or an
    embedding is not finite or not of unit length.
    """
    cases = []
    for number, samples in enumerate(lengths, 1):
        on_step(f"comparing with the original: length {number} of {len(lengths)}")
        alone = np.concatenate([original(row[None, :samples]) for row in waveforms])
        for batch in batches:
            together = np.concatenate(
                [graph(waveforms[i : i + batch, :samples]) for i in range(0, len(waveforms), batch)]
            )
            _require_unit_length(together)
            cases.append(Case(batch, samples, least_cosine(alone, together)))
    parity = Parity(tuple(cases), speech)
    if not parity.cosine >= floor:
        worst = min(cases, key=lambda case: case.cosine)
        raise ParityError(
            f"the graph drifts from its original: cosine {worst.cosine:.6f} at batch "
            f"{worst.batch} of {worst.samples} samples on {speech}, at least {floor} is needed; "
            "nothing was written"
        )
    return parity


def _require_unit_length(embeddings: Floats) -> None:
    norms = np.linalg.norm(embeddings, axis=1)
    if not np.all(np.abs(norms - 1) < _NORM_TOLERANCE):
        raise ParityError(
            f"the graph's embeddings are not finite and of unit length (norms {norms.min():.4f} "
            f"to {norms.max():.4f}); nothing was written"
        )


def least_cosine(left: Floats, right: Floats) -> float:
    """Find the smallest cosine between rows of two `(n, dim)`; -1 if shapes differ or a number is
    not finite."""
    if left.shape != right.shape:
        return -1.0
    a, b = left.astype(np.float64), right.astype(np.float64)
    cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def module_embed(model: nn.Module) -> Embed:
    """Embed by `model` on the CPU, in evaluation mode."""
    model.eval()

    def embed(waveforms: Floats) -> Floats:
        with torch.inference_mode():
            embedding: Floats = model(torch.from_numpy(np.ascontiguousarray(waveforms))).numpy()
        return embedding

    return embed


def graph_embed(model: onnx.ModelProto, *, threads: int = 1, output: str = OUTPUT) -> Embed:
    """Run `model` in ONNX Runtime on the CPU for what it calls `output`; raises `GraphError` if it
    does not load."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise GraphError(f"ONNX Runtime does not load the graph: {error}") from error

    def embed(waveforms: Floats) -> Floats:
        try:
            embedding: Floats = session.run(
                [output], {INPUT: np.ascontiguousarray(waveforms, dtype=np.float32)}
            )[0]
        except Exception as error:
            raise GraphError(f"the graph fails on {waveforms.shape}: {error}") from error
        return embedding

    return embed
