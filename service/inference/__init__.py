"""Inference: windows of speech to embeddings, batched over all callers.

windows -> embedder -> batcher -> session (ONNX Runtime; cuda) -> embedding
"""
