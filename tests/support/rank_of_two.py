"""One of two gloo processes, for `tests/training/test_ranks.py`: what its share comes to.

python rank_of_two.py RANK RENDEZVOUS_FILE OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed

from training import config
from training.commands.terminal import end_at_once
from training.data.batches import Batch
from training.learner import Learner, make_learner, trainable
from training.ranks import Ranks

CPU = torch.device("cpu")
COMMON = """
encoder = { name = "ecapa", width = 16, groups = 2, stride = 2, embedding_dim = 8 }
front_end = { mels = 24 }
schedule = { steps = 1 }
"""
RECIPES = {
    "supervised": """
        losses = [{ name = "info_nce" }, { name = "aam_softmax" }, { name = "triplet" }]
        framework = { name = "supervised", latent_memory = 16 }
    """,
    "simclr": """
        losses = [{ name = "info_nce" }]
        framework = { name = "simclr", head_width = 8 }
    """,
    "moco": 'framework = { name = "moco", queue = 16, momentum = 0.5 }',
    "cpc": 'framework = { name = "cpc", ahead = 2, chunk_frames = 6, context_dim = 8 }',
}


def whole_batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    waveforms = torch.randn(8, 4000, generator=generator)
    clips = torch.tensor([0, 1, 2, 2, 4, 5, 6, 6]) + 8 * step
    return Batch(waveforms, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), clips)


def share_of(batch: Batch, ranks: Ranks) -> Batch:
    rows = ranks.share(len(batch))
    return Batch(batch.waveforms[rows], batch.labels[rows], batch.clips[rows])


def step(learner: Learner, batch: Batch, ranks: Ranks) -> torch.Tensor:
    """One step in evaluation mode, so that batch norm takes no statistics from a share."""
    learner.framework.eval()
    learner.encoder.eval()
    outcome = learner.framework.step(learner.encoder, share_of(batch, ranks))
    learner.encoder.zero_grad()
    learner.framework.zero_grad()
    outcome.loss.backward()
    ranks.average_gradients(trainable(learner.encoder, learner.framework))
    return outcome.loss.detach()


@torch.no_grad()
def descend(learner: Learner) -> None:
    """Plainly: Adam would blow up what rounding leaves of a gradient that is zero."""
    for parameter in trainable(learner.encoder, learner.framework):
        if parameter.grad is not None:
            parameter.sub_(1e-3 * parameter.grad)


def run(ranks: Ranks) -> dict[str, dict[str, torch.Tensor]]:
    """By framework: losses of two steps, gradients of the second, and the state after it."""
    results = {}
    for name, recipe in RECIPES.items():
        learner = make_learner(config.parse(recipe + COMMON), 4, CPU, ranks=ranks)
        losses = []
        for number in range(2):
            losses.append(step(learner, whole_batch(number), ranks))
            gradients = {
                f"gradient {key}": parameter.grad.clone()
                for module in (learner.encoder, learner.framework)
                for key, parameter in module.named_parameters()
                if parameter.grad is not None
            }
            descend(learner)
            learner.framework.after_step(learner.encoder)
        state = {f"state {k}": v for k, v in learner.framework.state_dict().items()}
        results[name] = {"losses": torch.stack(losses), **gradients, **state}
    return results


def main(rank: int, rendezvous: str, output: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    ranks = Ranks(rank, 2)
    made = ranks.from_first(lambda: f"made by {rank}")
    torch.save({"from_first": made, **run(ranks)}, output)
    distributed.destroy_process_group()


if __name__ == "__main__":
    with end_at_once({"WORLD_SIZE": "2"}):
        main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
