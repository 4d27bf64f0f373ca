"""Scores of the demo's recordings by the models that ship, kept beside this file.

`make pins` writes them again, after a model or its calibration was changed.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT
from tests.support.voices import clips

FILE = Path(__file__).with_name("pins.json")
MODELS = sorted((ROOT / "models").glob("*.onnx"))
SPEAKERS = ("awb", "rms", "slt")
CALLERS = (*SPEAKERS, "kal")

Scores: TypeAlias = Mapping[str, Mapping[str, float]]
"""`cosine` and `llr` of each trial, which is named `SPEAKER CALLER/CLIP`."""


def measure(model: Path) -> Scores:
    """Every recording of a call against every voice, by a server with this model."""
    scores: dict[str, Mapping[str, float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalServer(
            store=f"sqlite:///{folder}/sayso.db", model=model, device="cpu", lock_after_failures=0
        ) as server,
        server.client() as sayso,
    ):
        for speaker in SPEAKERS:
            for clip in clips(speaker, "enroll"):
                assert sayso.enroll(speaker, clip).stored, (speaker, clip)
        for speaker in SPEAKERS:
            for clip in (clip for caller in CALLERS for clip in clips(caller, "verify")):
                decision = sayso.verify(speaker, clip)
                assert decision.cosine is not None, decision
                assert decision.llr is not None, decision
                scores[f"{speaker} {clip.parent.name}/{clip.name}"] = {
                    "cosine": round(decision.cosine, 5),
                    "llr": round(decision.llr, 4),
                }
    return scores


def read() -> Mapping[str, Scores]:
    """By the model's file name."""
    pinned: Mapping[str, Scores] = json.loads(FILE.read_text())
    return pinned


if __name__ == "__main__":
    measured = {model.name: measure(model) for model in MODELS}
    FILE.write_text(json.dumps(measured, indent=1) + "\n")
