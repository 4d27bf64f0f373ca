"""`sayso-train spoofs`: spoofed speech for a countermeasure."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from training.commands.terminal import progress_bars, say
from training.errors import ConfigError, GeneratorError

LISTED = 5


def spoofs(
    manifest: Annotated[
        Path, typer.Argument(help="Bona fide speech: path, corpus, speaker, split, seconds.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the clips and their manifest.csv.")],
    splits: Annotated[str, typer.Option(help="Splits to make clips of.")] = "train,dev",
    bona_fide: Annotated[int, typer.Option(min=1, help="Bona fide clips in a split.")] = 2000,
    each: Annotated[int, typer.Option(min=1, help="Clips of each attack in a split.")] = 200,
    attacks: Annotated[
        str, typer.Option(help="Names of attacks, with commas.", show_default="all")
    ] = "",
    seed: Annotated[int, typer.Option(help="Another seed, another corpus.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that make clips.")] = 1,
) -> None:
    """Make spoofed clips of bona fide ones by free synthesizers, vocoders and simulated replay.

    Programs and packages that it lacks are named with how to install them; `--attacks` leaves
    them out. What is made already stays, so that a stopped run goes on.

    Example: sayso-train spoofs manifest.csv --output spoofs --each 200
    """
    from training.spoofs import corpus
    from training.spoofs.generators import GENERATORS

    chosen = [name for name in attacks.split(",") if name] or list(GENERATORS)
    if unknown := sorted(set(chosen) - set(GENERATORS)):
        raise ConfigError(f"no attack {', '.join(unknown)}; there are {', '.join(GENERATORS)}")
    jobs = []
    for split in splits.split(","):
        rows = corpus.read_bona_fide(manifest, [split])
        jobs += corpus.plan(rows, bona_fide=bona_fide, each=each, attacks=chosen, seed=seed)
    made: list[corpus.Job] = []
    failed: list[corpus.Job] = []
    with progress_bars() as progress:
        task = progress.add_task("making", total=len(jobs), note="")
        for job, problem in corpus.make(jobs, output, workers=workers):
            (made if problem is None else failed).append(job)
            if problem is not None and len(failed) <= LISTED:
                say(f"left out: {problem}")
            progress.advance(task)
    corpus.write_manifest(output / corpus.MANIFEST, made)
    if failed:
        say(f"{len(failed)} of {len(jobs)} clips could not be made")
    counts = Counter((job.source.split, job.attack) for job in made)
    if lacking := {job.attack for job in failed} - {attack for _, attack in counts}:
        raise GeneratorError(f"no clip of {', '.join(sorted(lacking))} could be made")
    for (split, attack), count in sorted(counts.items()):
        say(f"{split}: {count} {attack}")
    sys.stdout.write(f"{output / corpus.MANIFEST}\n")
