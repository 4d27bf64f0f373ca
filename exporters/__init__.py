"""From a trained or published model to the one file that the service loads.

    checkpoint ─┐
    peer's code ┼─> nn.Module, waveform in ─> graph ─┐
    feature ONNX ──> front end grafted on ───────────┼─> parity gate ─> contract ─> model.onnx
                                                     │   (refuses)
    model.onnx ─> calibrate, quantise ───────────────┘

Nothing is written until the graph has given the embeddings of the code it came from.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports ONNX Runtime
