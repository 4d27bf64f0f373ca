"""`sayso-train probe`: what an encoder's embeddings tell apart beside speakers."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.terminal import print_table
from training.commands.trained import CheckpointFile, Clips, Seed, Split, TrainedEncoder

if TYPE_CHECKING:
    from training.analysis.probe import Accuracy, TaskResult

HEADINGS = ("told", "classes", "speakers", "clips", "chance", "log-mel", "encoder")


def probe(
    checkpoint: CheckpointFile,
    manifest: Clips,
    split: Split = "dev",
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Probe frozen embeddings for the spoken word and the corpus, on speakers new to the probe.

    Prints the share answered right (mean over classes) with its 95% interval over speakers, beside
    chance and beside the mean and deviation of the log-mel features.

    Example: sayso-train probe runs/first/best.pt --manifest manifest.csv
    """
    from training.analysis import probe as probes

    trained = TrainedEncoder.load(checkpoint, manifest, split)
    results = probes.probe(trained.checkpoint, trained.library, trained.device, seed=seed)
    if as_json:
        sys.stdout.write(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    else:
        print_table(HEADINGS, map(_row, results))


def _row(result: TaskResult) -> list[str]:
    counts = (result.classes, result.speakers, result.clips)
    shares = map(_share, (result.log_mel, result.encoder))
    return [result.task, *map(str, counts), f"{result.chance:.1%}", *shares]


def _share(accuracy: Accuracy) -> str:
    return f"{accuracy.share:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
