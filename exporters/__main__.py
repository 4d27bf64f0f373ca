"""`sayso-export`: make the model file that the service loads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evaluation import cache
from evaluation.errors import EvaluationError
from evaluation.run import Request
from exporters import adopt as adoption
from exporters import calibrate as calibration
from exporters import checkpoint as checkpoints
from exporters import model_file
from exporters.errors import ExportError
from exporters.graft import Features
from exporters.peers import ARCHITECTURES
from exporters.publish import Candidate, Windows, publish
from service.contract import Contract
from service.errors import SaysoError
from service.session import Device

app = typer.Typer(
    name="sayso-export",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help=__doc__,
)

Output = Annotated[Path, typer.Option(help="The model file to write (.onnx).")]
WindowS = Annotated[float, typer.Option(help="Seconds of speech in one window.")]
HopS = Annotated[float, typer.Option(help="Seconds between the starts of windows.")]
MinSpeechS = Annotated[float, typer.Option(help="Seconds of net speech below which none is made.")]
ShortS = Annotated[
    list[float],
    typer.Option(
        "--short-window-s",
        help="A shorter window, in seconds, run as it is; may be given more than once.",
        show_default=False,
    ),
]
Speech = Annotated[
    Path | None,
    typer.Option(
        help="Folder of recordings for the parity gate. [../shared/data, else made voices]",
        show_default=False,
    ),
]


@app.command()
def checkpoint(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="RUN/best.pt.")],
    output: Output,
    name: Annotated[str, typer.Option(help="Name that the model id starts with.")] = "sayso",
    window_s: WindowS = 3.0,
    hop_s: HopS = 1.5,
    min_speech_s: MinSpeechS = 0.5,
    short_window_s: ShortS = [],  # noqa: B006
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the contract.")] = "",
    speech: Speech = None,
) -> None:
    """Export a checkpoint of `sayso-train`.

    The graph is compared with PyTorch on speech, at several lengths and batch sizes; below a
    cosine of 0.99999 nothing is written.
    """
    with _errors_told():
        windows = Windows(window_s, hop_s, min_speech_s, tuple(short_window_s))
        _publish(
            checkpoints.candidate(source, name=name, windows=windows, licence=licence),
            output,
            speech,
        )


@app.command()
def adopt(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|URL",
            help="A name (resemblyzer), a checkpoint or ONNX file, or the address of one.",
        ),
    ],
    output: Output,
    architecture: Annotated[
        str | None,
        typer.Option(help=f"What a checkpoint holds: {', '.join(sorted(ARCHITECTURES))}."),
    ] = None,
    features: Annotated[
        Features | None,
        typer.Option(help="What an ONNX file starts at. [as its metadata says]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name that the model id starts with.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights. [the model's own, where known]")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Where the weights come from. [SOURCE]")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Hex digest that SOURCE must have; needed for a URL.")
    ] = None,
    window_s: Annotated[
        float | None, typer.Option(help="Seconds of speech in one window. [the model's own, or 3]")
    ] = None,
    hop_s: Annotated[
        float | None, typer.Option(help="Seconds between the starts of windows. [half a window]")
    ] = None,
    min_speech_s: MinSpeechS = 0.5,
    speech: Speech = None,
) -> None:
    """Turn a published model into a model file: waveform in, its own front end in the graph.

    The graph is compared with the model's own code on speech; below a cosine of 0.99999 nothing
    is written. Checkpoints are read as plain tensors: no code in them is run.
    """
    with _errors_told():
        windows = None
        if window_s is not None:
            windows = Windows(window_s, hop_s or window_s / 2, min_speech_s)
        elif hop_s is not None:
            raise ExportError("--hop-s needs --window-s")
        request = adoption.Request(
            source=source,
            architecture=architecture,
            features=features,
            name=name,
            windows=windows,
            licence=licence,
            origin=origin,
            sha256=sha256,
        )
        with adoption.candidate(request) as candidate:
            _publish(candidate, output, speech)


@app.command()
def calibrate(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    manifest: Annotated[Path, typer.Option(help="CSV of clips: path, speaker, corpus, split.")],
    split: Annotated[str, typer.Option(help="The manifest's split to fit on.")] = "dev",
    trials: Annotated[
        Path | None,
        typer.Option(help="Trial list, VoxCeleb format. [all pairs of clips within a corpus]"),
    ] = None,
    target_false_match_rate: Annotated[
        float | None,
        typer.Option(help="Operating point: this share of impostors passes. [0.01]", min=0, max=1),
    ] = None,
    cohort_split: Annotated[
        str | None, typer.Option(help="Also store a cohort of this split's speakers.")
    ] = None,
    cohort_speakers: Annotated[int, typer.Option(help="Speakers in the cohort.", min=2)] = 200,
    max_trials: Annotated[int, typer.Option(help="Draw this many at most.", min=2)] = 1_000_000,
    output: Annotated[Path | None, typer.Option(help="Write here. [MODEL itself]")] = None,
    cache_file: Annotated[
        Path | None,
        typer.Option("--cache", help="Embeddings kept between runs. [~/.cache/sayso]"),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where inference runs.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
) -> None:
    """Fit score calibration on trials and write it into the model's contract.

    Log-likelihood ratios are natural logarithms. The false-match thresholds come from
    cross-validation over speakers. Weights, graph and model id stay as they are.
    """
    request = Request(
        model=model,
        manifest=manifest,
        split=split,
        listed=trials,
        audio=None,
        cache=cache_file or cache.default_path(),
        device=device,
        max_trials=max_trials,
        seed=seed,
    )
    with _errors_told():
        fitted = asyncio.run(
            calibration.fit(
                request,
                target_false_match_rate=target_false_match_rate,
                cohort_split=cohort_split,
                cohort_speakers=cohort_speakers,
            )
        )
        contract = calibration.write(model, fitted, output)
        console = Console()
        console.print(f"{contract.model_id}: fitted on {fitted.calibration.fitted_on}")
        for rate, llr in fitted.calibration.false_match:
            console.print(
                f"  false-match rate {rate:7.4%}  at a log-likelihood ratio of {llr:6.2f}"
            )


def _publish(candidate: Candidate, output: Path, speech: Path | None) -> Contract:
    contract = publish(candidate, output, speech=speech)
    proof = contract.provenance["parity"]
    Console().print(
        f"{output}: {contract.model_id}, {output.stat().st_size / 1e6:.1f} MB, "
        f"parity {proof['cosine']:.7f} on {proof['speech']}, {model_file.digest(output)}",
        soft_wrap=True,
        highlight=False,
    )
    return contract


@contextmanager
def _errors_told() -> Iterator[None]:
    """One clear line and exit status 2 for what the user can correct."""
    try:
        yield
    except* (EvaluationError, SaysoError) as group:
        error = _first(group)
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    app()
