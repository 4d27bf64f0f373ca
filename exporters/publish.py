"""The last step of every export: gate, contract, file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporters import model_file, parity
from exporters.errors import ExportError
from exporters.graph import TOOLS, read_opset
from exporters.parity import Embed, Parity, ignore
from exporters.voices import load_voices
from service.contract import Contract

_VOICES = 5


@dataclass(frozen=True, slots=True)
class Windows:
    """How the service cuts speech for a model, in seconds.

    `short_s` are lengths of speech that run as they are, without being repeated to a whole window.
    """

    window_s: float = 3.0
    hop_s: float = 1.5
    min_speech_s: float = 0.5
    short_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.window_s:
            raise ExportError(f"a hop must be above 0 and at most the window, {self.window_s} s")
        if not self.min_speech_s > 0:
            raise ExportError("the least speech must be above 0 s")
        if not all(0 < short < self.window_s for short in self.short_s):
            raise ExportError(f"short windows must be above 0 and below {self.window_s} s")

    def lengths(self, rate: int) -> tuple[int, ...]:
        """List the gate's lengths in samples: the windows, one above them and one below."""
        window_s = self.window_s
        seconds = {*self.short_s, window_s, window_s + self.hop_s + 0.007, window_s * 0.43}
        return tuple(sorted(round(length * rate) for length in seconds))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A graph, the code it must agree with, and what its contract will say.

    `original` gives unit-length embeddings of `(batch, samples)` at `rate` hertz.
    """

    name: str
    graph: onnx.ModelProto
    original: Embed
    rate: int
    windows: Windows
    provenance: Mapping[str, Any] = field(default_factory=dict)
    floor: float = parity.FLOOR


def gate(
    candidate: Candidate, speech: Path | None = None, *, on_step: Callable[[str], None] = ignore
) -> Parity:
    """Measure the candidate's graph against its original; raises `ParityError` if they differ."""
    on_step("reading speech")
    lengths = candidate.windows.lengths(candidate.rate)
    waveforms, kind = load_voices(speech, rate=candidate.rate, samples=max(lengths), count=_VOICES)
    return parity.check(
        parity.graph_embed(candidate.graph),
        candidate.original,
        waveforms,
        lengths=lengths,
        speech=kind,
        floor=candidate.floor,
        on_step=on_step,
    )


def publish(
    candidate: Candidate,
    output: Path,
    *,
    speech: Path | None = None,
    on_step: Callable[[str], None] = ignore,
) -> Contract:
    """Write `candidate` to `output` if it passes the gate, and return its contract.

    `on_step` is called with what begins: a published model takes a minute.
    """
    passed = gate(candidate, speech, on_step=on_step)
    rate, windows = candidate.rate, candidate.windows
    probe = np.zeros((1, round(windows.window_s * rate)), dtype=np.float32)
    contract = Contract(
        model_id=model_file.make_model_id(candidate.name, candidate.graph),
        sample_rate=rate,
        window_samples=round(windows.window_s * rate),
        hop_samples=round(windows.hop_s * rate),
        min_speech_samples=round(windows.min_speech_s * rate),
        dimension=candidate.original(probe).shape[1],
        short_windows=tuple(sorted(round(short * rate) for short in windows.short_s)),
        provenance={
            **candidate.provenance,
            "tools": {"opset": read_opset(candidate.graph), **TOOLS},
            "parity": passed.record(),
        },
    )
    on_step(f"writing {output}")
    model_file.write(output, candidate.graph, contract)
    return contract
