"""From a manifest to batches.

readers ─> manifest ─ inspection ─> faults, before a night is spent on them
              │
           library    clips, decoded (or shards, mapped into memory; packing writes them)
              │
           sampler    speakers x clips of step t (clip_sampler: clips x views of them)
              │
           batches    crop, speed, augment ─> (batch, samples), (batch,)
              │
           teacher    what another model makes of the same clips, for distillation
"""
