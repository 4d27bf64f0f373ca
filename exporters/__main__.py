"""`sayso-export`: make the model file that the service loads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evaluation.errors import EvaluationError
from evaluation.experiments import condition_grid
from evaluation.experiments.request import Request
from evaluation.scoring import cache
from exporters import model_file
from exporters.errors import ExportError
from exporters.publish import Candidate, Windows, publish
from exporters.sources import ARCHITECTURES
from exporters.sources import adopt as adoption
from exporters.sources import checkpoint as checkpoints
from exporters.sources.graft import Features
from exporters.tuning import backend as backends
from exporters.tuning import calibrate as calibration
from exporters.tuning import quantize as quantization
from exporters.tuning import record
from exporters.tuning import windows as windowing
from exporters.tuning.quantize import Kind
from service.contract import Contract, ScoreKind
from service.errors import SaysoError
from service.inference.session import Device

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

CacheFile = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Embeddings kept between runs. [~/.cache/sayso/embeddings.sqlite]",
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
    with _print_errors():
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
    with _print_errors():
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
        typer.Option(help="Trial list: `1 a b`, or `a b target`. [pairs within a corpus]"),
    ] = None,
    enrolments: Annotated[
        Path | None,
        typer.Option(help="What the list's models are made of: lines `model clip [clip ...]`."),
    ] = None,
    target_false_match_rate: Annotated[
        float | None,
        typer.Option(help="Operating point: this share of impostors passes. [0.01]", min=0, max=1),
    ] = None,
    cohort_split: Annotated[
        str | None, typer.Option(help="Also store a cohort of this split's speakers.")
    ] = None,
    cohort_speakers: Annotated[int, typer.Option(help="Speakers in the cohort.", min=2)] = 200,
    score: Annotated[
        ScoreKind, typer.Option(help="Fit on cosines, or after adaptive S-norm by the cohort.")
    ] = ScoreKind.COSINE,
    speech: Annotated[
        str,
        typer.Option(help="Net speech of the heard side to fit at, in seconds; `full` alone: all."),
    ] = "1,2,3,5,full",
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Also fit on trials in this condition, on the heard side and on both; may be given"
            " more than once, `clean` alone: as recorded only. [gentle line, GSM]",
            show_default=False,
        ),
    ] = None,
    cohort_condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Let the cohort speak in this condition too; may be given more than once, `clean`"
            " alone: as recorded only. [steep and gentle line, mu-law, MP3, GSM, hum, keypad"
            " tones]",
            show_default=False,
        ),
    ] = None,
    max_trials: Annotated[int, typer.Option(help="Draw this many at most.", min=2)] = 1_000_000,
    output: Annotated[Path | None, typer.Option(help="Write here. [MODEL itself]")] = None,
    cache_file: CacheFile = None,
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
        enrollments=enrolments,
        audio=None,
        cache=cache_file or cache.default_path(),
        device=device,
        max_trials=max_trials,
        seed=seed,
    )
    with _print_errors():
        fitted = asyncio.run(
            calibration.fit(
                request,
                target_false_match_rate=target_false_match_rate,
                cohort_split=cohort_split,
                cohort_speakers=cohort_speakers,
                kind=score,
                lengths_s=condition_grid.parse_lengths(speech),
                conditions=condition or calibration.CONDITIONS,
                cohort_conditions=cohort_condition or calibration.COHORT_CONDITIONS,
            )
        )
        contract = calibration.write(model, fitted, output)
        console = Console()
        console.print(
            f"{contract.model_id}: {fitted.calibration.score} fitted on "
            f"{fitted.calibration.fitted_on}"
        )
        for rate, llr in fitted.calibration.false_match:
            console.print(
                f"  false-match rate {rate:7.4%}  at a log-likelihood ratio of {llr:6.2f}"
            )


@app.command()
def backend(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    manifest: Annotated[Path, typer.Option(help="CSV of clips: path, speaker, corpus, split.")],
    output: Output,
    kind: Annotated[
        backends.Kind, typer.Option(help="Centre only, decorrelate too, or separate speakers.")
    ] = backends.Kind.WHITENING,
    split: Annotated[str, typer.Option(help="The manifest's split to judge on.")] = "dev",
    clips: Annotated[
        int, typer.Option(help="Clips to judge on, evenly over its speakers.", min=2)
    ] = 600,
    fit_split: Annotated[str, typer.Option(help="Split of other speakers, to fit on.")] = "train",
    fit_clips: Annotated[int, typer.Option(help="Clips of it to take.", min=2)] = 2000,
    lda_dim: Annotated[int, typer.Option(help="Dimensions that LDA keeps.", min=1)] = 100,
    cross_channel: Annotated[
        bool,
        typer.Option("--cross-channel", help="Fit and judge through simulated channels, too."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write it though it does not help.")
    ] = False,
    replicates: Annotated[int, typer.Option(help="Bootstrap draws.", min=2)] = 200,
    cache_file: CacheFile = None,
    device: Annotated[Device, typer.Option(help="Where inference runs.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
) -> None:
    """Put mean subtraction, whitening or LDA into the graph, where that helps.

    Fitted on speakers of one split and judged on those of another, both models run as the service
    runs them. Written only if EER is shown to be lower on some trials and higher on none, with a
    model id of its own and no calibration: run sayso-export calibrate on it.
    """
    request = Request(
        model=model,
        manifest=manifest,
        split=split,
        listed=None,
        audio=None,
        cache=cache_file or cache.default_path(),
        device=device,
        cross_channel=cross_channel,
        replicates=replicates,
        seed=seed,
    )
    with _print_errors():
        fitting = backends.Fitting(kind, fit_split, fit_clips, lda_dim)
        contract, judgments = asyncio.run(
            backends.publish(request, fitting, output, clips=clips, force=force)
        )
        console = Console()
        for row in judgments:
            console.print(str(row), soft_wrap=True, highlight=False)
        console.print(f"{output}: {contract.model_id}, calibration none", highlight=False)


@app.command()
def windows(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    manifest: Annotated[Path, typer.Option(help="CSV of clips: path, speaker, corpus, split.")],
    split: Annotated[str, typer.Option(help="The manifest's split to measure on.")] = "dev",
    window_s: Annotated[
        list[float], typer.Option(help="A window to try, in seconds; may be given more than once.")
    ] = [1.5, 2.0, 3.0, 4.0],  # noqa: B006
    overlap: Annotated[
        list[float],
        typer.Option(help="Share of a window that the next repeats; may be given more than once."),
    ] = [0.5],  # noqa: B006
    min_speech_s: MinSpeechS = 0.5,
    max_trials: Annotated[int, typer.Option(help="Draw this many at most.", min=2)] = 1_000_000,
    output: Annotated[
        Path | None, typer.Option(help="Write the model with the best choice here. [only told]")
    ] = None,
    cache_file: CacheFile = None,
    device: Annotated[Device, typer.Option(help="Where inference runs.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
) -> None:
    """Choose window and hop by measurement, on trials run as the service runs them.

    The choice is the one that runs the least audio through the model, the shorter where equal,
    among those whose EER is within 3% of the least. A model written with other windows has to be
    calibrated again.
    """
    request = Request(
        model=model,
        manifest=manifest,
        split=split,
        listed=None,
        audio=None,
        cache=cache_file or cache.default_path(),
        device=device,
        max_trials=max_trials,
        seed=seed,
    )
    with _print_errors():
        choices = windowing.grid(window_s, overlaps=overlap, min_speech_s=min_speech_s)
        measured = asyncio.run(windowing.measure(request, choices))
        chosen = windowing.best(measured)
        console = Console()
        for row in measured:
            mark = "*" if row is chosen else " "
            console.print(
                f"{mark} window {row.windows.window_s:4.2f} s, hop {row.windows.hop_s:4.2f} s: "
                f"EER {row.eer:7.3%}, {row.load:.2f} s of audio for one of speech",
                highlight=False,
            )
        if output is not None:
            graph, contract = model_file.read(model)
            model_file.write(output, graph, windowing.apply(contract, chosen.windows))


@app.command()
def quantize(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    kind: Annotated[
        Kind,
        typer.Option("--to", help="fp16 stores weights in 16 bits; int8 computes in 8 bits."),
    ],
    output: Output,
    speech: Speech = None,
) -> None:
    """Write a smaller variant and record in its contract how far its embeddings drift.

    Nothing is written when a recording's cosine with the original is below 0.9999 (fp16) or 0.95
    (int8). The variant has a model id of its own, so voices have to be enrolled with it.
    """
    with _print_errors():
        contract, small = quantization.publish(model, kind, output, speech=speech)
        before, after = contract.provenance["quantised"]["bytes"]
        calibrated = "kept" if contract.calibration else "none: run sayso-export calibrate"
        Console().print(
            f"{output}: {contract.model_id}, {before / 1e6:.1f} to {after / 1e6:.1f} MB, cosine "
            f"least {small.least:.5f}, mean {small.mean:.5f} on {small.speech}; calibration "
            f"{calibrated}",
            soft_wrap=True,
            highlight=False,
        )


app.command("quantise", hidden=True)(quantize)  # for scripts that know the older spelling


@app.command("record")
def record_evaluation(
    model: Annotated[Path, typer.Argument(help="A model file with its contract.")],
    report: Annotated[Path, typer.Argument(help="evaluation.json, as sayso-evaluate writes it.")],
    output: Annotated[Path | None, typer.Option(help="Write here. [MODEL itself]")] = None,
) -> None:
    """Store what a model measured in its contract: EER by corpus, and the report's digest."""
    with _print_errors():
        contract = record.write(model, report, output)
        Console().print(f"{contract.model_id}: {contract.evaluation['report']}", soft_wrap=True)


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
def _print_errors() -> Iterator[None]:
    """End with one clear line and exit status 2 for what the user can correct."""
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
