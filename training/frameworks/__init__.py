"""What is compared with what, each told step by step; `[framework]` in a recipe picks one.

              who belongs together                      learned with
supervised    clips of a speaker, as labeled           the recipe's losses
simclr        views of a clip                           the recipe's losses
moco          views of a clip, against a queue          InfoNCE
cpc           what was heard and what follows           InfoNCE, frame by frame

Learning with few labels is two runs: one of the last three on all clips, then a supervised one on
`sampling.label_share` of the speakers that starts from its checkpoint.
"""

from __future__ import annotations

from training import config, losses
from training.config import Recipe
from training.encoders import SpeakerEncoder
from training.frameworks.cpc import Cpc, trunk_of
from training.frameworks.framework import Framework, Outcome
from training.frameworks.latent import LatentAugmentation
from training.frameworks.moco import MoCo
from training.frameworks.simclr import SimClr, projection
from training.frameworks.supervised import Supervised
from training.ranks import Ranks

__all__ = ["Framework", "Outcome", "build"]


def build(
    recipe: Recipe,
    encoder: SpeakerEncoder,
    *,
    voices: int,
    target_dim: int | None = None,
    ranks: Ranks,
) -> Framework:
    """The framework a recipe asks for, its weights drawn from torch's global generator.

    ConfigError when the encoder lacks what it needs, or the recipe distils without targets.
    """
    dim = recipe.encoder.embedding_dim
    match recipe.framework:
        case config.Supervised(latent_memory=size):
            objective = losses.build(recipe, voices, target_dim)
            latent = (
                LatentAugmentation(embedding_dim=dim, size=size, seed=recipe.seed) if size else None
            )
            return Supervised(objective, ranks, latent)
        case config.SimClr(head_width=hidden):
            return SimClr(losses.build(recipe, voices), projection(dim, hidden), ranks)
        case config.MoCo(queue=queue, momentum=momentum, temperature=temperature):
            return MoCo(
                encoder,
                embedding_dim=dim,
                queue=queue,
                momentum=momentum,
                temperature=temperature,
                seed=recipe.seed,
                ranks=ranks,
            )
        case config.Cpc() as chosen:
            return Cpc(
                frame_dim=trunk_of(encoder).frame_dim,
                context_dim=chosen.context_dim,
                ahead=chosen.ahead,
                chunk_frames=chosen.chunk_frames,
                negatives=chosen.negatives,
                ranks=ranks,
            )
