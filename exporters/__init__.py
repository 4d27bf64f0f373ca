"""From a trained or published model to the one file that the service loads.

    sources/: a checkpoint of ours ─┐
              a toolkit's weights ──┼─> graph: waveform in, embedding out ─┐
              features ONNX, its front end grafted on ─────────────────────┤
                                                                           │
                        parity: refuses a graph that differs from its code ┤
                                                                           │
                                 publish: graph + contract ─> model_file ──┴─> model.onnx
    tuning/:  model.onnx ─> calibrated, quantized, with other windows or a back-end

Nothing is written until the graph has given the embeddings of the code it came from.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports ONNX Runtime
