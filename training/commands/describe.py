"""`describe`: what a recipe's encoder costs."""

from __future__ import annotations

import sys

from training.commands.options import RecipeName


def describe(recipe: RecipeName) -> None:
    """Print a recipe's encoder: parameters, and multiply-accumulates for one second of audio.

    Example: sayso-train describe small
    """
    import torch

    from training import config, encoders
    from training.encoders.size import count_macs, count_parameters

    chosen = config.load(recipe)
    encoder = encoders.build(chosen).eval()
    second = torch.zeros(1, chosen.front_end.sample_rate_hz)
    sys.stdout.write(
        f"encoder              {chosen.encoder.name}\n"
        f"embedding dimension  {chosen.encoder.embedding_dim}\n"
        f"parameters           {count_parameters(encoder) / 1e6:.2f} M\n"
        f"MACs                 {count_macs(encoder, second) / 1e6:.0f} M "
        "for a second of audio, front end included\n"
    )
