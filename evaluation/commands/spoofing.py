"""`sayso-evaluate spoofing`: how well a countermeasure hears synthetic voices and replays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluation.commands import options
from evaluation.commands.terminal import out, quote_command, say, show_steps
from evaluation.errors import EvaluationError

if TYPE_CHECKING:
    from evaluation.experiments.spoofing import Findings
    from evaluation.trials.spoof_keys import KeyedClip

REPORT = "spoofing.json"


def measure_spoofing(
    key: Annotated[
        Path,
        typer.Argument(
            help="Which clips are spoofed: a key of ASVspoof 2019, 2021 or 5, In-the-Wild's"
            " meta.csv, or the manifest of `sayso-train spoofs`."
        ),
    ],
    scores: Annotated[
        Path | None,
        typer.Option(help="Lines `clip score`, higher for bona fide.", show_default=False),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="A countermeasure (.onnx) that scores the clips.", show_default=False),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="Folder of the clips.", show_default="the key's folder"),
    ] = None,
    comparisons: Annotated[
        Path | None,
        typer.Option(
            "--asv-scores",
            help="Lines `claimed clip target|nontarget|spoof score` of a speaker model, for a-DCF"
            " and t-EER.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only the key's clips of this split.", show_default=False)
    ] = None,
    channel: Annotated[
        str, typer.Option(help="`recorded`, `telephone`, or both with a comma.")
    ] = "recorded",
    seconds: Annotated[
        str, typer.Option(help="Seconds heard, with commas.", show_default="all")
    ] = "",
    window_s: Annotated[
        float, typer.Option(min=0.1, help="Window of a model that takes any length.")
    ] = 3.0,
    threshold: Annotated[
        float | None,
        typer.Option(help="Scores below raise the alarm.", show_default="by ASVspoof 5's costs"),
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of alarms on bona fide clips that sets the threshold, for each half of the"
            " speakers from the other half.",
            show_default=False,
        ),
    ] = None,
    output_folder: options.Output = options.DEFAULT_OUTPUT,
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Measure a countermeasure by attack, and with a speaker model: EER, DCF, a-DCF and t-EER.

    The costs are those of ASVspoof 5; 95% intervals draw speakers. False alarms on bona fide
    speech are listed by language, gender and age where the key knows them.

    Example: sayso-evaluate spoofing spoofs/manifest.csv --split dev --model countermeasure.onnx
    """
    from evaluation.experiments import spoofing
    from evaluation.trials import spoof_keys

    if (scores is None) == (model is None):
        raise EvaluationError("give either --scores or --model")
    if threshold is not None and false_alarms is not None:
        raise EvaluationError("give either --threshold or --false-alarms")
    clips = spoof_keys.read(key, split)
    compared = None if comparisons is None else spoof_keys.read_comparisons(comparisons)
    found = {}
    with show_steps() as step:
        conditions = _score(
            clips,
            scores=scores,
            model=model,
            audio=audio or key.parent,
            channels=channel.split(","),
            seconds=[float(part) for part in seconds.split(",") if part] or [None],
            window_s=window_s,
            seed=seed,
            step=step,
        )
        for scored in conditions.values():
            spoofing.require_scores(clips, scored)
        if false_alarms is None:
            limit = spoofing.default_threshold() if threshold is None else threshold
            thresholds = {clip.name: limit for clip in clips}
        else:
            thresholds = spoofing.cross_fit_thresholds(
                clips, list(conditions.values()), [false_alarms] * len(conditions)
            )
        for name, scored in conditions.items():
            step(f"measuring {name}")
            found[name] = spoofing.measure(
                clips, scored, compared, thresholds=thresholds, replicates=replicates, seed=seed
            )
    for name, findings in found.items():
        _print(name, findings)
    document: dict[str, Any] = {
        "command": quote_command(),
        "thresholds": sorted(set(thresholds.values())),
        "conditions": {name: findings.describe() for name, findings in found.items()},
    }
    output_folder.mkdir(parents=True, exist_ok=True)
    (output_folder / REPORT).write_text(json.dumps(document, indent=1), encoding="utf-8")
    say(f"all figures are in {output_folder / REPORT}")


def _score(
    clips: tuple[KeyedClip, ...],
    *,
    scores: Path | None,
    model: Path | None,
    audio: Path,
    channels: list[str],
    seconds: list[float | None],
    window_s: float,
    seed: int,
    step: Any,
) -> Mapping[str, Mapping[str, float]]:
    """Scores by clip, for each condition by its name."""
    from evaluation.scoring import countermeasure
    from evaluation.trials import spoof_keys

    if scores is not None:
        return {"scores": spoof_keys.read_scores(scores)}
    if unknown := set(channels) - set(countermeasure.CHANNELS):
        raise EvaluationError(f"no channel {min(unknown)}; there is recorded, telephone")
    assert model is not None
    opened = countermeasure.Countermeasure.open(model, window_s=window_s)
    conditions = {}
    for channel in channels:
        for heard_s in seconds:
            name = channel if heard_s is None else f"{channel}, {heard_s:g} s"
            step(f"scoring {len(clips)} clips, {name}")
            conditions[name] = countermeasure.score_clips(
                opened, clips, audio, channel=channel, seconds=heard_s, seed=seed
            )
    return conditions


def _print(condition: str, findings: Findings) -> None:
    from rich.table import Table

    table = Table(title=condition)
    for heading in ("attack", "clips", "EER", "95%", "min DCF", "actual DCF", "missed"):
        table.add_column(heading, justify="left" if heading == "attack" else "right")
    for row in findings.attacks:
        figures, (low, high) = row.figures, row.intervals["eer"]
        table.add_row(
            row.attack,
            str(row.spoofed),
            f"{figures.eer:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{figures.min_dcf:.3f}",
            f"{figures.actual_dcf:.3f}",
            f"{row.missed:.1%}",
        )
    out.print(table)
    alarms = Table(title=f"false alarms on bona fide speech, {condition}")
    for heading in ("group", "clips", "speakers", "false alarms", "95%"):
        alarms.add_column(heading, justify="left" if heading == "group" else "right")
    for alarm in findings.alarms:
        low, high = alarm.interval
        alarms.add_row(
            f"{alarm.group} {alarm.value}".strip(),
            str(alarm.clips),
            str(alarm.speakers),
            f"{alarm.false_alarms:.1%}",
            f"{low:.1%} to {high:.1%}",
        )
    out.print(alarms)
    if findings.tandem is not None:
        for name, (low, value, high) in findings.tandem.figures.items():
            say(f"{name}: {value:.4f} ({low:.4f} to {high:.4f})")
