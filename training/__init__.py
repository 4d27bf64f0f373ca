"""Learns a speaker embedding from labelled clips.

manifest.csv ─ data ─> clips, decoded        recipes/*.toml ─ config ─> Recipe
                │
             sampler    speakers x clips of step t, from (seed, t) alone
                │
             batches    crop, speed, ─ augment ─> (batch, samples), (batch,)
                │
             encoders   frontend > encoder > L2 norm ─> (batch, dim)
                │
             losses     weighted sum ─> scalar
                │
             train      optimise, average, ─ validation ─> EER of held-out speakers
                │
             checkpoint ─> last.pt, best.pt
"""
