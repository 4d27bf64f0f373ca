"""What came of each call of the demo: as a table, a sentence, or fields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text
from sayso import Decision, SaysoError

from service.commands.demo.voices import Trial

STYLES = {"right": "green", "wrong": "bold red", "open": "yellow", "error": "bold red"}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a trial: a decision, or the error in its place."""

    trial: Trial
    made: Decision | SaysoError
    latency_s: float

    @property
    def verdict(self) -> str:
        """One of `STYLES`; open means that the server did not decide, and says why."""
        if isinstance(self.made, SaysoError):
            return "error"
        if self.made.outcome not in ("ACCEPTED", "REJECTED"):
            return "open"
        return "right" if self.made.accepted == self.trial.genuine else "wrong"


def list_result(result: Result) -> dict[str, Any]:
    """List the fields of a result by name, for JSON."""
    trial, failed = result.trial, isinstance(result.made, SaysoError)
    return {
        "voice": trial.voice,
        "recording": trial.call,
        "claim": trial.claim,
        "genuine": trial.genuine,
        "verdict": result.verdict,
        "latency_s": result.latency_s,
        "decision": None if failed else result.made,
        "error": str(result.made) if failed else None,
    }


def make_table(results: Sequence[Result]) -> Table:
    """Make a table with a row for each result."""
    rows = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in ("speaker", "clip", "claims", "truth", "decision"):
        rows.add_column(heading, no_wrap=heading != "clip")
    for heading in ("LLR", "cosine", "net\nspeech", "latency"):
        rows.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        trial = result.trial
        kind = "genuine" if trial.genuine else "impostor"
        names = map(Text, (trial.voice, trial.call.name, trial.claim, kind))
        rows.add_row(*names, *_list_cells(result))
    return rows


def _list_cells(result: Result) -> Iterator[Text | str]:
    style, made = STYLES[result.verdict], result.made
    if isinstance(made, SaysoError):
        yield Text(str(made), style)
        return
    yield Text(made.outcome + " wrong" * (result.verdict == "wrong"), style)
    for score in (made.llr, made.cosine):
        yield "" if score is None else f"{score:.2f}"
    yield f"{made.net_speech_s:.1f} s"
    yield f"{result.latency_s * 1000:.0f} ms"


def summarize(results: Sequence[Result]) -> str:
    """Count what was right, wrong, undecided and failed, in one sentence."""

    def count_right(*, genuine: bool) -> str:
        verdicts = [result.verdict for result in results if result.trial.genuine == genuine]
        return f"{verdicts.count('right')} of {len(verdicts)}"

    verdicts = [result.verdict for result in results]
    return (
        f"{count_right(genuine=True)} genuine calls accepted, "
        f"{count_right(genuine=False)} impostors rejected; "
        f"{verdicts.count('wrong')} wrong, {verdicts.count('open')} undecided, "
        f"{verdicts.count('error')} failed"
    )


def describe_threshold(results: Sequence[Result]) -> str:
    """Describe the threshold of the first decision that had one; every call has the same policy."""
    for result in results:
        made = result.made
        if isinstance(made, Decision) and made.threshold_llr is not None:
            return f"accepted from an LLR of {made.threshold_llr:.2f}: {made.threshold_description}"
    return "nothing was compared"
