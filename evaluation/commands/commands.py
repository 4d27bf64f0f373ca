"""The commands of `sayso-evaluate` beside its main one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from evaluation.commands import options
from evaluation.commands.options import errors_told
from evaluation.degrade import codecs, conditions, impairments
from evaluation.degrade.impairments import CLEAN
from evaluation.experiments import condition_grid, external_scores, promises, score_variants
from evaluation.experiments.run import Request
from evaluation.metrics.error_rates import Rate
from evaluation.report import document, files, page, table
from evaluation.report.document import Document
from evaluation.scoring import cache
from service.inference.session import Device

DEFAULT_OUTPUT = Path("evaluation-report")
DeviceOption = Annotated[Device, typer.Option(help="Where the model runs.")]


def grid(
    model: options.Model,
    manifest: options.Manifest,
    split: options.Split = None,
    clips: Annotated[
        int, typer.Option(help="Clips to take, evenly over the speakers.", min=2)
    ] = 400,
    speech: Annotated[
        str, typer.Option(help="Net speech of the heard side, seconds.")
    ] = "1,2,3,5,full",
    snr: Annotated[
        str, typer.Option(help="Signal-to-noise ratios of the heard side, dB.")
    ] = "clean,20,10,5",
    codec: Annotated[
        str | None,
        typer.Option(help=f"Of {', '.join(conditions.CODEC_NAMES)}. [all that can be used here]"),
    ] = None,
    output_folder: options.Output = DEFAULT_OUTPUT,
    cache_file: options.CacheFile = None,
    device: DeviceOption = "auto",
    replicates: options.Replicates = 100,
    seed: options.Seed = 0,
) -> None:
    """Degrade the heard side and print EER by net speech, noise and codec.

    Noise has the speech's own spectrum. Writes conditions.json, and renders the report anew
    where there is one.
    """
    with errors_told():
        asked = conditions.list_conditions(
            condition_grid.parse_lengths(speech),
            condition_grid.parse_noises(snr),
            codecs.list_available() if codec is None else codec.split(","),
        )
        request = _request(model, manifest, split, cache_file, device, replicates, seed)
        told = asyncio.run(condition_grid.measure(request, list(asked), clips=clips))
        _written(output_folder, condition_grid.NAME, told)
        Console().print(_grid_table(told))


def promise(
    model: options.Model,
    manifest: options.Manifest,
    split: options.Split = None,
    trials: Annotated[
        Path | None, typer.Option(help="Trial list. [pairs within a corpus]", show_default=False)
    ] = None,
    enrolments: Annotated[
        Path | None, typer.Option(help="What the list's models are made of.", show_default=False)
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(impairments.IMPAIRMENTS)}. [all]", show_default=False),
    ] = None,
    output_folder: options.Output = DEFAULT_OUTPUT,
    cache_file: options.CacheFile = None,
    device: DeviceOption = "auto",
    max_trials: options.MaxTrials = 500_000,
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Check the model's promised false-match rate in every condition, on one side and on both.

    Offset, hum, rumble, tones, silence, telephone lines and codecs. Writes promises.json, and
    renders the report anew where there is one. Where the promise fails is said in the table; the
    exit status is 0 all the same.
    """
    with errors_told():
        request = _request(model, manifest, split, cache_file, device, replicates, seed, max_trials)
        request = replace(request, listed=trials, enrolments=enrolments)
        told = asyncio.run(promises.measure(request, condition or tuple(impairments.IMPAIRMENTS)))
        _written(output_folder, promises.NAME, told)
        Console().print(_promise_table(told))


def back_ends(
    model: options.Model,
    manifest: options.Manifest,
    split: options.Split = "dev",
    fit_split: Annotated[
        str, typer.Option(help="Split of other speakers, for cohort and back-ends.")
    ] = "train",
    fit_clips: Annotated[
        int, typer.Option(help="Clips of it to take, evenly over the speakers.", min=2)
    ] = 2000,
    top_n: Annotated[
        int, typer.Option(help="Nearest cohort speakers that adaptive S-norm looks at.", min=2)
    ] = 100,
    lda_dim: Annotated[int, typer.Option(help="Dimensions that LDA keeps.", min=1)] = 100,
    output_folder: options.Output = DEFAULT_OUTPUT,
    cache_file: options.CacheFile = None,
    device: DeviceOption = "auto",
    max_trials: options.MaxTrials = 500_000,
    replicates: options.Replicates = 100,
    seed: options.Seed = 0,
) -> None:
    """Compare cosine with Z, T, S and adaptive S-norm, mean subtraction, whitening, LDA, PLDA.

    Each with a paired bootstrap against plain cosine. Writes score_variants.json, and renders the
    report anew where there is one.
    """
    with errors_told():
        request = _request(
            model, manifest, split, cache_file, device, max(replicates, 2), seed, max_trials
        )
        told = asyncio.run(
            score_variants.measure(
                request, fit_split=fit_split, fit_clips=fit_clips, top_n=top_n, lda_dim=lda_dim
            )
        )
        _written(output_folder, score_variants.NAME, told)
        Console().print(_variant_table(told))


def scores(
    file: Annotated[
        Path,
        typer.Argument(
            help="Lines `enrol test score`, `enrol test target score`, `enrol test 1 score` or"
            " `enrol test score target`, or with a header; also gzip."
        ),
    ],
    trials: Annotated[
        Path | None, typer.Option(help="Trial list, when the file has no labels of its own.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="The file's columns in their order: enrol, test, score, label, and - for one to"
            " leave alone, such as `label,enrol,test,score`."
        ),
    ] = None,
    manifest: options.OptionalManifest = None,
    output_folder: options.Output = DEFAULT_OUTPUT,
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Evaluate another system by its scores: all figures and the report."""
    with errors_told():
        judged, told = external_scores.assess(
            file,
            listed=trials,
            known=manifest,
            columns=columns,
            replicates=replicates,
            seed=seed,
        )
        for warning in told["warnings"]:
            typer.echo(f"warning: {warning}", err=True)
        Console().print(table.make_table(judged.groups, judged.system))
        files.write(output_folder, told, judged)
        typer.echo(f"the report is {output_folder / files.REPORT}")


def compare(
    first: Annotated[Path, typer.Argument(help="evaluation.json of system A.")],
    second: Annotated[Path, typer.Argument(help="evaluation.json of system B.")],
    output_folder: options.Output = Path("evaluation-comparison"),
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Overlay two reports and say whether B is better than A on the trials both scored.

    Both folders need their scores.tsv.gz. Writes comparison.html and comparison.json.
    """
    with errors_told():
        told = external_scores.compare(first, second, replicates=max(replicates, 2), seed=seed)
        output_folder.mkdir(parents=True, exist_ok=True)
        document.write(output_folder / "comparison.json", told)
        held = document.read(output_folder / "comparison.json")
        html = page.render_comparison(held, held["systems"])
        (output_folder / "comparison.html").write_text(html, encoding="utf-8")
        Console().print(_difference_table(held))


def merge(
    into: Annotated[Path, typer.Argument(help="Cache to fill, made when missing.")],
    shards: Annotated[list[Path], typer.Argument(help="Caches that --shard runs wrote.")],
) -> None:
    """Put the caches of several machines into one, to evaluate from with --cache."""
    with errors_told():
        for shard in shards:
            if not shard.is_file():
                raise typer.BadParameter(f"{shard} is missing", param_hint="SHARDS")
        with cache.Cache.open(into) as merged:
            for shard in shards:
                typer.echo(f"{shard}: {merged.absorb(shard):,} new embeddings")


def _request(
    model: Path,
    manifest: Path,
    split: str | None,
    cache_file: Path | None,
    device: Device,
    replicates: int,
    seed: int,
    max_trials: int = 2_000_000,
) -> Request:
    return Request(
        model=model,
        manifest=manifest,
        split=split,
        listed=None,
        audio=None,
        cache=cache_file or cache.default_path(),
        device=device,
        max_trials=max_trials,
        replicates=replicates,
        seed=seed,
    )


def _written(folder: Path, name: str, told: Document) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document.write(folder / name, told)
    if (folder / document.NAME).is_file():
        files.render(folder)


def _grid_table(told: Document) -> Table:
    cells = {(cell["channel"], cell["length"]): cell["figures"] for cell in told["cells"]}
    lengths = list(dict.fromkeys(length for _, length in cells))
    drawn = Table(title=f"EER %, {told['told']}", title_justify="left", box=box.SIMPLE_HEAD)
    drawn.add_column("heard side")
    for length in lengths:
        drawn.add_column(length, justify="right")
    for channel in dict.fromkeys(channel for channel, _ in cells):
        rates = [f"{100 * cells[channel, length].eer.value:.2f}" for length in lengths]
        drawn.add_row(channel, *rates)
    return drawn


def _promise_table(told: Document) -> Table:
    title = f"{told['system']} promises {told['promised']:.2%} false matches"
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("condition", "on", "impostors accepted %", "owners rejected %", "SNR dB", ""):
        drawn.add_column(column)
    for row in told["rows"]:
        where = "" if row.condition == CLEAN else "both sides" if row.both_sides else "heard side"
        rates = [_rate(rate) for rate in (row.accepted, row.rejected)]
        verdict = "holds" if row.holds else "fails"
        drawn.add_row(row.condition, where, *rates, f"{row.snr_db:.0f}", verdict)
    return drawn


def _rate(rate: Rate) -> str:
    value, held = f"{100 * rate.value:.2f}", rate.interval
    return value if held is None else f"{value} ({100 * held.low:.2f} to {100 * held.high:.2f})"


def _variant_table(told: Document) -> Table:
    drawn = Table(title=told["told"], title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("score", "EER %", "minDCF 0.01", "less cosine, points", "verdict"):
        drawn.add_column(column, no_wrap=column == "verdict")
    for row in told["rows"]:
        held = row["difference"]
        less = "" if held is None else f"{100 * held.low:+.2f} .. {100 * held.high:+.2f}"
        rates = (f"{100 * row['eer']:.2f}", f"{row['min_dcf'][0.01]:.3f}")
        drawn.add_row(row["name"], *rates, less, row["verdict"])
    return drawn


def _difference_table(told: Document) -> Table:
    drawn = Table(title=told["told"], title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("figure", "A", "B", "B less A, 95%", "verdict"):
        drawn.add_column(column)
    for name, row in told["differences"].items():
        low, high = row["interval"]["low"], row["interval"]["high"]
        values = (f"{row['first']:.4f}", f"{row['second']:.4f}", f"{low:+.4f} .. {high:+.4f}")
        drawn.add_row(name, *values, row["verdict"])
    return drawn
