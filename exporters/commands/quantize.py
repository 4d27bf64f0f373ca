"""`quantize`: a smaller variant."""

from __future__ import annotations

from typing import Annotated

import typer

from evaluation.commands.terminal import say, show_steps
from exporters.commands.options import ModelFile, Output, Precision, Speech


def quantize(
    model: ModelFile,
    kind: Annotated[
        Precision,
        typer.Option("--to", help="fp16 stores weights in 16 bits; int8 computes in 8 bits."),
    ],
    output: Output,
    speech: Speech = None,
) -> None:
    """Write a smaller variant and record in its contract how far its embeddings drift.

    Nothing is written when a recording's cosine with the original is below 0.9999 (fp16) or 0.95
    (int8). The variant has a model id of its own, so voices have to be enrolled with it.

    Example: sayso-export quantize model.onnx --to int8 --output model-int8.onnx
    """
    with show_steps() as show:
        show(f"reading {model}")
        from exporters.tuning import quantize as quantization

        contract, small = quantization.publish(model, kind, output, speech=speech, on_step=show)
    before, after = contract.provenance["quantised"]["bytes"]
    calibrated = "kept" if contract.calibration else "none: run sayso-export calibrate"
    say(
        f"{output}: {contract.model_id}, {before / 1e6:.1f} to {after / 1e6:.1f} MB, cosine "
        f"least {small.least:.5f}, mean {small.mean:.5f} on {small.speech}; calibration "
        f"{calibrated}"
    )
