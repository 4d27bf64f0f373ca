"""Offline measurement of a speaker-verification model: numpy, never torch.

manifest | list -> trials -> embeddings (the service's own audio path) -> scores
    -> calibration -> metrics with bootstrap intervals -> report
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports ONNX Runtime
