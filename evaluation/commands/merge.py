"""`sayso-evaluate merge`: the caches of several machines put into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.terminal import say


def merge_caches(
    into: Annotated[Path, typer.Argument(help="Cache to fill, made when missing.")],
    shards: Annotated[list[Path], typer.Argument(help="Caches that --shard runs wrote.")],
) -> None:
    """Put the caches of several machines into one, to evaluate from with --cache.

    Example: sayso-evaluate merge all.sqlite machine-1.sqlite machine-2.sqlite
    """
    from evaluation.scoring.cache import Cache

    for shard in shards:
        if not shard.is_file():
            raise typer.BadParameter(f"{shard} is missing", param_hint="SHARDS")
    with Cache.open(into) as merged:
        for shard in shards:
            say(f"{shard}: {merged.absorb(shard):,} new embeddings")
