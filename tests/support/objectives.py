"""Every objective, as a recipe asks for it."""

from __future__ import annotations

from training import config, losses
from training.losses import WeightedSum

OBJECTIVES = {
    "contrastive": '{ name = "contrastive" }',
    "triplet, hard": '{ name = "triplet" }',
    "triplet, semi-hard": '{ name = "triplet", mining = "semi_hard" }',
    "triplet, all": '{ name = "triplet", mining = "all" }',
    "n-pair": '{ name = "n_pair" }',
    "info-nce": '{ name = "info_nce" }',
    "info-nce, fixed": '{ name = "info_nce", learned = false }',
    "info-nce, hardest": '{ name = "info_nce", negatives = { hardest = 16 } }',
    "info-nce, memory": '{ name = "info_nce", negatives = { memory_momentum = 0.5 } }',
    "info-nce, suspects": '{ name = "info_nce", negatives = '
    "{ trusted_share = 0.9, suspect_weight = 0.2 } }",
    "symmetric info-nce": '{ name = "symmetric_info_nce" }',
    "supervised contrastive": '{ name = "supervised_contrastive" }',
    "supervised contrastive, memory": '{ name = "supervised_contrastive", negatives = '
    "{ memory_momentum = 0.5 } }",
    "logistic": '{ name = "logistic" }',
    "angular prototypical": '{ name = "angular_prototypical" }',
    "ge2e": '{ name = "ge2e" }',
    "aam-softmax": '{ name = "aam_softmax" }',
    "aam-softmax, sub-centres": '{ name = "aam_softmax", subcentres = 3 }',
}


def build_objective(objective: str, *, dim: int, classes: int) -> WeightedSum:
    recipe = config.parse(
        f"""
        losses = [{objective}]
        encoder = {{ name = "ecapa", width = 16, groups = 4, embedding_dim = {dim} }}
        schedule = {{ steps = 1 }}
        """
    )
    return losses.build(recipe, classes)
