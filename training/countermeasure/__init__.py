"""Trains a countermeasure: a network that tells bona fide speech from spoofed.

manifest.csv of `sayso-train spoofs` ─ clips ─> library ─ sampler ─> half bona fide, half spoofed
                                                             │
                                     training.augment: every clip through a channel of its own
                                                             │
                          network   waveform (batch, samples) ─> logit of bona fide (batch,)
                                                             │
                          train     the loop; a checkpoint holds recipe, weights and average
"""
