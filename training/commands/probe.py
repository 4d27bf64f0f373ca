"""`sayso-train probe`: what an encoder's embeddings tell apart beside speakers."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from training.analysis import probe as probes
from training.analysis.probe import Accuracy, TaskResult
from training.commands.terminal import one_line_errors, print_table
from training.commands.trained import CheckpointFile, Clips, Seed, Shown, Split

HEADINGS = ("told", "classes", "speakers", "clips", "chance", "log-mel", "encoder")


def probe(
    checkpoint: CheckpointFile,
    manifest: Clips,
    split: Split = "dev",
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Tell the spoken word and the corpus from frozen embeddings, of speakers unheard by the probe.

    The share told right, mean over classes, with its 95% interval over speakers, beside chance and
    beside the mean and deviation of the log-mel features.
    """
    with one_line_errors():
        shown = Shown.load(checkpoint, manifest, split)
        found = probes.probe(shown.kept, shown.library, shown.device, seed=seed)
    if as_json:
        sys.stdout.write(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    else:
        print_table(HEADINGS, map(_row, found))


def _row(one: TaskResult) -> list[str]:
    counts = (one.classes, one.speakers, one.clips)
    shares = map(_share, (one.log_mel, one.encoder))
    return [one.task, *map(str, counts), f"{one.chance:.1%}", *shares]


def _share(told: Accuracy) -> str:
    return f"{told.share:.1%} ({told.low:.1%} to {told.high:.1%})"
