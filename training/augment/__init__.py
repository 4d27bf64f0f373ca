"""What a call does to a voice, drawn anew for every example.

speech ─ rooms ─> noise ─> babble ─> handset ─> levels ─> telephone ─> codecs ─> packets ─> channel
                                                                                   │
                                                                the features ─ masks

Every stage takes (samples,) float32, full scale 1, and gives the same shape; randomness is a numpy
Generator passed in. `Channel` is the list of stages; `masks` acts on features, inside the graph.
"""

from training.augment.channel import Channel, Stage
from training.augment.waveform import Rng, Waveform, measure_rms, wrap

__all__ = ["Channel", "Rng", "Stage", "Waveform", "measure_rms", "wrap"]
