"""Learns a speaker embedding from labelled clips.

manifest.csv ─ data ─> clips, decoded        recipes/*.toml ─ config ─> Recipe
                │
             sampler    speakers x clips of step t, from (seed, t) alone
                │
             batches    crop, speed, ─ augment ─> (batch, samples), (batch,)
                │
             encoders   frontend > encoder > L2 norm ─> (batch, dim)
                │
             frameworks what is compared with what, ─ losses ─> scalar
                │
             train      optimise, average, ─ validation ─> EER of held-out speakers
                │
             checkpoint ─> last.pt, best.pt ─ embedding ─> gallery, probe: what it tells apart
                │
             reporting  scalars ─ history ─> curves, comparison of runs
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports ONNX Runtime
