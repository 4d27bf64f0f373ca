"""Measure claims of several speakers on real speech, and rewrite "How often it is wrong" in
docs/integrate/households.md and benchmarks/results/households.json.

    python -m benchmarks.accuracy.households [MODEL] [--manifest ../shared/data/manifest.csv]

Clips of one speaker are joined to an enrollment and to calls. Each call is claimed, by the server's
code, to be of one of N speakers drawn at random, from all corpora or from its own: without the
caller (an impostor) and with the caller (a genuine call). Beside it are a claim of one by the same
calls, and the likeliest voice at the threshold of one, for what would happen without calibration
for the number.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import figures, pages
from benchmarks.accuracy.calls import Caller, Plan, Step
from benchmarks.accuracy.early_decisions import hear_all_callers, make_policy
from evaluation.trials import manifest
from service.audio.quality import Quality
from service.calls.claims import Claim, ClaimedVoice
from service.calls.verification import Verifier
from service.decisions.decision import ClaimedSpeaker, ClaimStatus, Decision, Outcome
from service.inference.embedder import Utterance
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from service.store import Voiceprint

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "integrate" / "households.md"
SIZES = (1, 2, 4, 8)
"""Numbers of claimed speakers; the last is the most that the API takes."""
PROMISED = 0.01
"""The rate of false matches that the default policy asks for."""
DRAWS = 20
"""Households drawn for each call, with the caller and without."""
REPLICATES = 1000


@dataclass(frozen=True, slots=True)
class Claims:
    """The outcomes of claims of one size: of impostors and of genuine calls, (callers,) each the
    share that was accepted. `single` is of impostors who claim to be one of the same speakers, and
    `best` by the likeliest voice at the threshold of one. `named` is the share of accepted genuine
    calls that were matched with the caller."""

    size: int
    drawn_from: str
    impostors: NDArray[np.float64]
    genuine: NDArray[np.float64]
    best: NDArray[np.float64]
    single: NDArray[np.float64]
    named: float


def decide(verifier: Verifier, members: Sequence[Caller], call: Step) -> Decision:
    """Decide, as the service does by its default policy, on a call claimed to be of `members`."""
    voices, claimed = [], []
    for member in members:
        enrolled, name = member.enrolled, str(member.speaker)
        speech_s = np.array([enrolled.speech_s], np.float32)
        voiceprint = Voiceprint(verifier.model_id, enrolled.embedding[None], speech_s, 0.0)
        voices.append(ClaimedVoice(name, voiceprint, verifier))
        claimed.append(ClaimedSpeaker(name, ClaimStatus.COMPARED))
    quality = Quality(call.speech_s, call.speech_s, call.snr_db, 0.0, -6.0)
    claim = Claim(tuple(voices), tuple(claimed) if len(claimed) > 1 else ())
    return claim.verify(Utterance(call.embedding, quality, 1), make_policy())


def measure(
    verifier: Verifier, callers: Sequence[Caller], size: int, *, own_corpus: bool
) -> Claims:
    """Measure claims of `size` speakers, of the caller's own corpus or of any; callers for whom
    there are not enough others are left out."""
    chance = np.random.default_rng(size)
    alone = verifier.choose_threshold(make_policy()).llr
    impostors: list[float] = []
    genuine: list[float] = []
    best: list[float] = []
    single: list[float] = []
    named: list[bool] = []
    for caller, others in list_others(callers, own_corpus=own_corpus):
        if len(others) < size:
            continue
        false: list[bool] = []
        true: list[bool] = []
        highest: list[bool] = []
        alone_accepted: list[float] = []
        for call in caller.calls:
            for _ in range(DRAWS):
                drawn = [others[i] for i in chance.choice(len(others), size, replace=False)]
                decision = decide(verifier, drawn, call[-1])
                false.append(decision.outcome is Outcome.ACCEPTED)
                llrs = np.array(list_llrs(decision))
                highest.append(bool(llrs.max() >= alone))
                alone_accepted.append(float(np.mean(llrs >= alone)))
                decision = decide(verifier, [caller, *drawn[1:]], call[-1])
                true.append(decision.outcome is Outcome.ACCEPTED)
                if true[-1]:
                    named.append(decision.likeliest == str(caller.speaker))
        impostors.append(float(np.mean(false)))
        genuine.append(float(np.mean(true)))
        best.append(float(np.mean(highest)))
        single.append(float(np.mean(alone_accepted)))
    drawn_from = "own corpus" if own_corpus else "all corpora"
    return Claims(
        size,
        drawn_from,
        np.array(impostors),
        np.array(genuine),
        np.array(best),
        np.array(single),
        named=float(np.mean(named)),
    )


def list_others(
    callers: Sequence[Caller], *, own_corpus: bool
) -> Iterator[tuple[Caller, list[Caller]]]:
    """Yield each caller with the other speakers, of the same corpus or of all."""
    for caller in callers:
        corpus = caller.speaker.corpus
        yield (
            caller,
            [
                one
                for one in callers
                if one is not caller and (one.speaker.corpus == corpus or not own_corpus)
            ],
        )


def list_llrs(decision: Decision) -> list[float]:
    """List the log-likelihood ratio of each voice."""
    assert decision.score is not None, "voices were compared"
    llrs = [speaker.score.llr for speaker in decision.claimed if speaker.score]
    return llrs or [decision.score.llr]


def format_rate(shares: NDArray[np.float64]) -> str:
    """Format a rate with its interval: 95%, the callers resampled."""
    chance = np.random.default_rng(0)
    drawn = chance.choice(shares, (REPLICATES, len(shares))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{shares.mean():.1%} ({low:.1%} to {high:.1%})"


def render(rows: Sequence[Claims], model_id: str, split: str) -> str:
    lines = [
        f"Measured with {model_id} on the {split} speakers, calls of up to 13 s, voices enrolled "
        f"with 8 s, at a target of {PROMISED:.0%}; in brackets 95% intervals over the callers:",
        "",
        "| claimed speakers | drawn from | callers | false matches | of a claim of one "
        "| of the likeliest voice, uncorrected | genuine calls rejected "
        "| matched with the caller, if accepted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            str(row.size),
            row.drawn_from,
            str(len(row.impostors)),
            format_rate(row.impostors),
            format_rate(row.single),
            format_rate(row.best),
            format_rate(1 - row.genuine),
            f"{row.named:.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def list_figures(rows: Sequence[Claims], how: str) -> list[figures.Figure]:
    found = []
    for row in rows:
        name = f"household_{row.size}_of_{row.drawn_from.replace(' ', '_')}"
        single, aim = float(row.single.mean()), figures.below(100 * PROMISED)
        promise = None if row.drawn_from == "own corpus" else aim
        for key, shares, target in (
            ("false_matches", row.impostors, promise),
            ("rejected", 1 - row.genuine, None),
        ):
            rate = 100 * float(shares.mean())
            found.append(figures.figure(f"{name}_{key}", [rate], "%", target, how))
        if row.size > 1:
            for key, shares in (("over_single", row.impostors), ("best_over_single", row.best)):
                ratio = float(shares.mean()) / single
                found.append(figures.figure(f"{name}_{key}", [ratio], "ratio", None, how))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--manifest", type=Path, default=ROOT.parent / "shared/data/manifest.csv")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--calls", type=int, default=2, help="of a speaker, at most")
    parser.add_argument("--print", action="store_true", help="leave page and figures as they are")
    arguments = parser.parse_args()
    clips = manifest.read(arguments.manifest, arguments.split)
    plan = Plan(calls=arguments.calls)
    callers = asyncio.run(hear_all_callers(arguments.model, clips, plan))
    contract = Session.open(arguments.model).contract
    rows = [
        measure(Verifier(contract), callers, size, own_corpus=own_corpus)
        for own_corpus in (False, True)
        for size in SIZES
    ]
    measured = render(rows, contract.model_id, arguments.split)
    print(measured)
    if not arguments.print:
        pages.write_measured(PAGE, measured)
        how = f"{contract.model_id}, {arguments.split} speakers, default policy, {DRAWS} draws"
        figures.write("households", list_figures(rows, how))


if __name__ == "__main__":
    main()
