"""The gRPC service: turns audio into speech, windows, an embedding, a score and a decision.

    request -> audio -> speech -> windows -> batcher -> session -> embedding
                                                                      |
                                  decision <- scoring <- store <------+

Nothing here imports torch: the model file contains its front end.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports ONNX Runtime
