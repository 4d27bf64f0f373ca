"""Trains a speaker embedding on labeled clips.

manifest.csv ─> data         clips, drawn in P x K batches; augment sends each through a channel
recipes/*.toml ─> config ─> Recipe
                  │
               frontends     waveform (batch, samples) ─> features (batch, mels, frames)
                  │
               encoders      features ─> embedding (batch, dim) of unit length
                  │
               frameworks    what is compared with what, ─ losses ─> scalar
                  │
               train         the loop: optimize, average, validate; learner is its state,
                  │          ranks are the processes that share a batch
               runs          checkpoints, validation, scalars, what can be known before a run
                  │
               analysis      what a trained encoder tells apart

Beside it, spoofs makes spoofed clips of bona fide ones, and countermeasure trains a network to tell
them apart.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports ONNX Runtime
