"""`sayso-train manifest`, `inspect` and `pack`: what is learned from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.terminal import progress_bars, say
from training.data import inspection, packing, readers, shards
from training.data import manifest as manifests
from training.data.inspection import Inspection
from training.data.library import Clip, Library, load_clips, read_manifest
from training.data.readers.files import count_unread
from training.errors import ManifestError

LISTED = 10
SHARD_MB = 512
BYTES_PER_SAMPLE = 2

Manifest = Annotated[
    Path, typer.Argument(help="CSV with the columns path, corpus, speaker, split, session.")
]
Threads = Annotated[int, typer.Option(min=1, help="Files decoded at once.")]


def load_library(
    path: Path,
    split: str,
    rate_hz: int,
    *,
    shown: bool = True,
    check: Callable[[Sequence[Clip]], object] = lambda _: None,
) -> Library:
    """Decode the clips of a split, or map those of a pack, and print what cannot be read.

    `check` may raise what is wrong with the list before the clips are decoded.
    """
    if path.is_dir():
        library = shards.read(path, rate_hz)
        check(library.clips)
        return library
    clips = read_manifest(path, split)
    check(clips)
    with progress_bars(shown=shown) as progress:
        task = progress.add_task("decoding", total=len(clips), note="")
        library = load_clips(clips, rate_hz, advance=lambda: progress.advance(task))
    for unreadable in library.unreadable:
        say(f"left out: {unreadable}")
    return library


def manifest(
    root: Annotated[Path, typer.Argument(help="The corpus as it was unpacked.")],
    layout: Annotated[
        str,
        typer.Option(help=f"How its folders and files are named: {', '.join(readers.LAYOUTS)}."),
    ],
    output: Annotated[Path, typer.Option(help="The manifest to write (.csv).")],
) -> None:
    """Write the manifest of a published corpus: speakers, sessions and splits by its layout.

    Example: sayso-train manifest LibriSpeech --layout librispeech --output librispeech.csv
    """
    rows = readers.read(layout, root)
    manifests.write(output, rows)
    speakers = len({(row.corpus, row.speaker) for row in rows})
    say(f"{len(rows)} clips of {speakers} speakers")
    for suffix, count in sorted(count_unread(root, rows).items()):
        say(f"left out: {count} {suffix} files, which are not read; convert them, to .flac say")
    sys.stdout.write(f"{output}\n")


def inspect(
    manifest: Manifest,
    short_s: Annotated[float, typer.Option(min=0, help="Shorter clips are too short.")] = 0.5,
    threads: Threads = 2,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False,
) -> None:
    """Decode every clip and print hours, speakers, sessions, duplicates and faults.

    Ends with exit status 2 if the data has a fault that spoils a measurement.

    Example: sayso-train inspect manifest.csv
    """
    rows = manifests.read(manifest)
    with progress_bars() as progress:
        task = progress.add_task("decoding", total=len(rows), note="")
        report = inspection.inspect(
            rows, short_s=short_s, threads=threads, advance=lambda: progress.advance(task)
        )
    if as_json:
        sys.stdout.write(json.dumps(asdict(report) | {"faults": report.faults}, indent=1) + "\n")
    else:
        Console(file=sys.stdout).print(_table(report))
        _list_what_is_wrong(report)
    if report.faults:
        raise ManifestError("; ".join(report.faults))


def _table(report: Inspection) -> Table:
    table = Table(show_header=False)
    for name, value in (
        ("clips", str(report.clips)),
        ("hours", f"{report.hours:.2f}"),
        ("speakers", str(report.speakers)),
        ("sessions", f"{report.sessions} ({report.clips_without_session} clips name none)"),
        ("clips a speaker", " ".join(f"{count:g}" for count in report.clips_per_speaker)),
        ("", "least, quartiles, most"),
        ("by split", _format_counts(report.clips_by_split)),
        ("by corpus", _format_counts(report.clips_by_corpus)),
        ("by rate", _format_counts({f"{hz} Hz": n for hz, n in report.clips_by_rate_hz.items()})),
        ("files stored twice", str(_count_extra(report.same_bytes))),
        ("audio stored twice", str(_count_extra(report.same_audio))),
        ("audio of several speakers", str(len(report.audio_of_several))),
        ("unreadable", str(len(report.unreadable))),
        ("silent", str(len(report.silent))),
        ("not finite", str(len(report.not_finite))),
        ("cut short", str(len(report.cut_short))),
        ("too short", str(len(report.too_short))),
        ("in several splits", f"{len(report.speakers_across_splits)} speakers"),
    ):
        table.add_row(name, value)
    return table


def _format_counts(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{name}: {count}" for name, count in counts.items())


def _count_extra(groups: list[list[str]]) -> int:
    return sum(len(group) - 1 for group in groups)


def _list_what_is_wrong(report: Inspection) -> None:
    splits = report.speakers_across_splits
    for name, lines in (
        ("unreadable", report.unreadable),
        ("silent", report.silent),
        ("not finite", report.not_finite),
        ("cut short", report.cut_short),
        ("one recording of", [" and ".join(group) for group in report.audio_of_several]),
        ("too short", report.too_short),
        ("the same file", [" = ".join(group) for group in report.same_bytes]),
        ("the same audio", [" = ".join(group) for group in report.same_audio]),
        ("in several splits", [f"{who}: {', '.join(where)}" for who, where in splits.items()]),
    ):
        for line in lines[:LISTED]:
            say(f"{name}: {line}")
        if len(lines) > LISTED:
            say(f"{name}: {len(lines) - LISTED} more; --json lists them all")


def pack(
    manifest: Manifest,
    output: Annotated[Path, typer.Option(help="Folder to write; `run --manifest` reads it.")],
    split: Annotated[str, typer.Option(help="Rows of the manifest to pack.")] = "train",
    rate_hz: Annotated[int, typer.Option(help="The rate of the recipes to be run on it.")] = 16000,
    shard_mb: Annotated[int, typer.Option(min=1, help="Size of a shard file.")] = SHARD_MB,
    threads: Threads = 2,
) -> None:
    """Decode clips once into large files that training maps into memory.

    Example: sayso-train pack manifest.csv --output packed
    """
    clips = read_manifest(manifest, split)
    with progress_bars() as progress:
        task = progress.add_task("packing", total=len(clips), note="")
        unreadable = packing.pack(
            clips,
            output,
            rate_hz,
            shard_samples=shard_mb * 1_000_000 // BYTES_PER_SAMPLE,
            threads=threads,
            advance=lambda: progress.advance(task),
        )
    for left_out in unreadable:
        say(f"left out: {left_out}")
    sys.stdout.write(f"{output}\n")
