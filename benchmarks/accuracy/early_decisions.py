"""Measure the sequential test on real speech, and rewrite "How soon it decides" in
docs/integrate/decisions.md.

    python -m benchmarks.accuracy.early_decisions [MODEL] [--manifest ../shared/data/manifest.csv]

Clips of one speaker are joined to an enrolment and to calls; every call is tried against every
enrolment of its corpus, and judged by calibrations that heard neither speaker.
"""

import argparse
import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import pages
from benchmarks.accuracy import calls, encounters, sequential
from benchmarks.accuracy.calls import Caller, Plan
from benchmarks.accuracy.sequential import JudgedTrials, Verdicts
from evaluation import metrics
from evaluation.metrics.error_rates import Rate
from evaluation.trials import manifest
from service.audio.speech import VoiceActivity
from service.decisions.policy import Policy, QualityGate, SequentialTest, ThresholdSource
from service.decisions.scoring import Scorer
from service.inference.embedder import Embedder
from service.inference.session import Session
from service.settings import SHIPPED_MODEL, DecisionRules, SequentialDefaults

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "integrate" / "decisions.md"
TARGETS = ((0.01, 0.01), (0.05, 0.05), (0.01, 0.05))
CAP_S = SequentialDefaults().max_speech_s
FIXED_S = (3.0, CAP_S)
MEDIAN_S = 3.0
QUEUE = 1 << 16


@dataclass(frozen=True, slots=True)
class Row:
    """A way to decide, as a line of a table; `promised` are false-match and false-non-match."""

    name: str
    verdicts: Verdicts
    promised: tuple[float, float | None]


def make_policy() -> Policy:
    """Make the service's default policy, except that audio of any quality is decided on."""
    least_s = DecisionRules().min_speech_s
    return Policy(0.01, ThresholdSource.SERVER, QualityGate(least_s, -100.0, 1.0))


async def hear_all_callers(
    model: Path, clips: tuple[manifest.Clip, ...], plan: Plan
) -> tuple[Caller, ...]:
    session = Session.open(model, device="auto")
    async with Embedder(session, VoiceActivity.open(), max_batch=16, queue_limit=QUEUE) as embedder:
        return await calls.hear_callers(embedder, clips, make_policy(), plan)


def judge(model: Path, found: tuple[Caller, ...]) -> JudgedTrials:
    contract = Session.open(model, device="cpu").contract
    return sequential.judge_trials(encounters.pair_calls(found, Scorer(contract)))


def list_rows(judged: JudgedTrials) -> list[Row]:
    rows = []
    for match, non_match in TARGETS:
        test = SequentialTest(match, non_match, CAP_S)
        name = f"sequential, {match:.0%} and {non_match:.0%}"
        rows.append(Row(name, sequential.decide_sequentially(judged, test), (match, non_match)))
    for rate in sorted({match for match, _ in TARGETS}):
        for speech_s in FIXED_S:
            name = f"fixed, {rate:.0%}, at {speech_s:g} s"
            rows.append(
                Row(name, sequential.decide_at_length(judged, rate, speech_s), (rate, None))
            )
    return rows


def format_row(judged: JudgedTrials, row: Row) -> str:
    target, verdicts = judged.encounters.target, row.verdicts
    match, non_match = sequential.measure_errors(judged, verdicts.accepted != target)
    heard_s = verdicts.speech_s[target]
    cells = [
        row.name,
        format_rate(match, row.promised[0]),
        format_rate(non_match, row.promised[1]),
        f"{np.median(heard_s):.1f} s",
        f"{np.quantile(heard_s, 0.9):.1f} s",
        f"{np.mean(verdicts.early[target]):.0%}" if verdicts.early.any() else "",
    ]
    return f"| {' | '.join(cells)} |"


def format_rate(rate: Rate, promised: float | None) -> str:
    """Format a rate with its interval, marked if the whole interval is above the promised rate."""
    assert rate.interval is not None, "measure_errors() refuses rates without"
    missed = promised is not None and rate.interval.low > promised
    text = f"{rate.value:.1%} ({rate.interval.low:.1%} to {rate.interval.high:.1%})"
    return f"{text}, missed" if missed else text


def format_corpus(judged: JudgedTrials, corpus: str, verdicts: Verdicts) -> str:
    """Format one corpus's row at the first of the targets: the equal error rate at the end of the
    calls, and how soon the test decides and how often it errs."""
    met = judged.encounters
    own, target = met.corpus == corpus, met.target
    ends = judged.llr[met.last]
    eer = metrics.eer(metrics.Sweep.of(ends[own & target], ends[own & ~target]))
    accepted, heard_s = verdicts.accepted, verdicts.speech_s[own & target]
    cells = [
        corpus,
        f"{len(np.unique(met.sides.speaker[met.sides.enrol[own]]))}",
        f"{int((own & target).sum())}",
        f"{eer:.1%}",
        format_share(accepted[own & ~target]),
        format_share(~accepted[own & target]),
        f"{np.median(heard_s):.1f} s",
        f"{np.mean(verdicts.early[own & target]):.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def format_share(flags: NDArray[np.bool_]) -> str:
    return f"{np.mean(flags):.1%}"


def render_page(judged: JudgedTrials, model_id: str, split: str) -> str:
    met = judged.encounters
    rows = list_rows(judged)
    strictest = rows[0].verdicts
    corpora = sorted(set(met.corpus))
    targets = int(met.target.sum())
    lines = [
        f"Measured with {model_id} on the {split} speakers of {', '.join(corpora)}:",
        f"{targets} calls of the enrolled speaker, {len(met.target) - targets} of others.",
        "",
        "| decision | false matches | false non-matches | median | 9 of 10 within "
        "| before the cap |",
        "|---|---|---|---|---|---|",
        *(format_row(judged, row) for row in rows),
        "",
        "| corpus | speakers | own calls | EER at the end | false matches | false non-matches "
        "| median | before the cap |",
        "|---|---|---|---|---|---|---|---|",
        *(format_corpus(judged, corpus, strictest) for corpus in corpora),
        "",
        describe_medians(judged, strictest),
    ]
    return "\n".join(lines) + "\n"


def describe_medians(judged: JudgedTrials, verdicts: Verdicts) -> str:
    """Say for each corpus whether the median time to a decision is as short as the target."""
    met = judged.encounters
    medians = {
        corpus: float(np.median(verdicts.speech_s[met.target & (met.corpus == corpus)]))
        for corpus in sorted(set(met.corpus))
    }
    short = [corpus for corpus, heard_s in medians.items() if heard_s <= MEDIAN_S]
    long = [corpus for corpus in medians if corpus not in short]
    return (
        f"At {TARGETS[0][0]:.0%} and {TARGETS[0][1]:.0%} half of the callers are decided within "
        f"{MEDIAN_S:g} s of net speech on: {', '.join(short) or 'none'}; not on: "
        f"{', '.join(long) or 'none'}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--manifest", type=Path, default=ROOT.parent / "shared/data/manifest.csv")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--calls", type=int, default=Plan().calls, help="of a speaker, at most")
    parser.add_argument("--print", action="store_true", help="leave the page as it is")
    arguments = parser.parse_args()
    clips = manifest.read(arguments.manifest, arguments.split)
    found = asyncio.run(hear_all_callers(arguments.model, clips, Plan(calls=arguments.calls)))
    measured = render_page(
        judge(arguments.model, found),
        Session.open(arguments.model).contract.model_id,
        arguments.split,
    )
    print(measured)
    if not arguments.print:
        pages.write_measured(PAGE, measured)


if __name__ == "__main__":
    main()
