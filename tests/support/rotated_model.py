"""A model with other weights: every embedding of another one, rotated.

Within its own space it scores as the other does, by the same calibration; across the two, scores
mean nothing.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from service.contract import Contract
from service.decisions.scoring import cohort_vectors


def rotate_embeddings(source: Path, to: Path, *, model_id: str = "rotated") -> Path:
    """Write the model of `source` with its embeddings rotated."""
    model = onnx.load(source)
    contract = Contract.from_metadata({each.key: each.value for each in model.metadata_props})
    chance = np.random.default_rng(len(model_id))
    rotation = np.linalg.qr(chance.normal(size=2 * (contract.dimension,)))[0].astype(np.float32)
    (made,) = (node for node in model.graph.node if "embedding" in node.output)
    made.output[0] = "straight"
    model.graph.initializer.append(numpy_helper.from_array(rotation, "rotation"))
    model.graph.node.append(helper.make_node("MatMul", ["straight", "rotation"], ["embedding"]))
    if (cohort := contract.cohort) is not None:
        vectors = (cohort_vectors(cohort) @ rotation).astype("<f4")
        contract = replace(contract, cohort=replace(cohort, vectors=vectors.tobytes()))
    helper.set_model_props(model, replace(contract, model_id=model_id).to_metadata())
    onnx.save(model, to)
    return to
