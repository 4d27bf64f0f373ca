"""The options that the commands of `sayso-evaluate` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from evaluation.errors import EvaluationError
from evaluation.experiments.request import Request
from evaluation.scoring import cache
from service.errors import SaysoError
from service.inference.session import Device

DEFAULT_OUTPUT = Path("evaluation-report")

OptionalModel: TypeAlias = Annotated[
    Path | None,
    typer.Option("--model", help="Model file (.onnx) with its contract.", show_default=False),
]
Model: TypeAlias = Annotated[
    Path, typer.Option("--model", help="Model file (.onnx) with its contract.")
]
OptionalManifest: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        help="CSV of clips: path, speaker, and where known corpus, split, labels such as gender.",
        show_default=False,
    ),
]
Manifest: TypeAlias = Annotated[
    Path, typer.Option("--manifest", help="CSV of clips: path, speaker, corpus, split.")
]
Split: TypeAlias = Annotated[
    str | None, typer.Option(help="Only the manifest's clips of this split.")
]
Output: TypeAlias = Annotated[
    Path, typer.Option("--output", help="Folder for what is written; the report is there too.")
]
CacheFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--cache", help="Embeddings kept between runs. [~/.cache/sayso]"),
]
Replicates: TypeAlias = Annotated[
    int, typer.Option(help="Bootstrap draws for the 95% intervals; 0 for no intervals.", min=0)
]
MaxTrials: TypeAlias = Annotated[
    int, typer.Option(help="Draw this many trials when there are more pairs.", min=2)
]
Seed: TypeAlias = Annotated[int, typer.Option(help="Seed of every draw.")]
DeviceOption: TypeAlias = Annotated[Device, typer.Option(help="Where the model runs.")]


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """Print one line and exit with status 2 for an error that the user can correct."""
    try:
        yield
    except (EvaluationError, SaysoError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def make_request(
    model: Path,
    manifest: Path,
    split: str | None,
    cache_file: Path | None,
    device: Device,
    replicates: int,
    seed: int,
    max_trials: int = 2_000_000,
) -> Request:
    """A request for trials made of the pairs of a manifest's clips."""
    return Request(
        model=model,
        manifest=manifest,
        split=split,
        cache=cache_file or cache.default_path(),
        device=device,
        max_trials=max_trials,
        replicates=replicates,
        seed=seed,
    )
