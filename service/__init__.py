"""The gRPC service: a request becomes audio, speech, windows, an embedding, a score, a decision.

    request -> audio -> speech -> windows -> batcher -> session -> embedding
                                                                      |
                                  decision <- scoring <- store <------+

Nothing in here imports torch: the model file carries its own front end.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports ONNX Runtime
