"""Coverage-guided fuzzing of every harness, one after the other: `make fuzz ARGS='--minutes 20'`.

Writes `build/fuzz/summary.json` and a folder a harness; exits with 1 if anything was found.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.every import BY_NAME

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "fuzz"
_GRACE_S = 120.0
_MOST_ENDS = 10
_EXECUTED = re.compile(r"^stat::number_of_executed_units: (\d+)", re.M)
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one harness came to: `edges` and `features` are libFuzzer's, of Python code alone;
    `faults` are places where a check failed, `crashes` inputs that ended a process, and `ends` the
    exit statuses of processes that ended early."""

    harness: str
    seconds: float
    executions: int
    edges: int
    features: int
    corpus: int
    faults: tuple[str, ...]
    crashes: tuple[str, ...]
    ends: tuple[int, ...]


def run(name: str, seconds: float) -> Outcome:
    """Fuzzes in processes of its own, a new one after each crash, for `seconds` in all.

    What an earlier run found is tried first.
    """
    folder, started = FOLDER / name, time.monotonic()
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for found in (*folder.glob("*-*"), *folder.glob("faults/*.bin")):
        found.rename(corpus / found.name)
    shutil.rmtree(folder / "faults", ignore_errors=True)
    log, ends = "", list[int]()
    while (left_s := seconds - (time.monotonic() - started)) >= 1 and len(ends) < _MOST_ENDS:
        status, text = _process(name, folder, left_s)
        log += text
        ends += [status] if status else []
    coverage = [tuple(map(int, found)) for found in _COVERAGE.findall(log)] or [(0, 0, 0)]
    edges, features, corpus = (max(each) for each in zip(*coverage, strict=True))
    places = folder / "faults" / "places.json"
    return Outcome(
        harness=name,
        seconds=round(time.monotonic() - started, 1),
        executions=sum(map(int, _EXECUTED.findall(log))),
        edges=edges,
        features=features,
        corpus=corpus,
        faults=tuple(json.loads(places.read_text())) if places.exists() else (),
        crashes=tuple(path.name for path in folder.glob("*-*") if path.is_file()),
        ends=tuple(ends),
    )


def _process(name: str, folder: Path, seconds: float) -> tuple[int, str]:
    """One process's exit status and log, which is also added to that in `folder`."""
    command = [sys.executable, "-m", "tests.fuzz.target", name, str(folder)]
    path = folder / "log"
    before = path.stat().st_size if path.exists() else 0
    with path.open("ab") as log:
        process = subprocess.Popen(
            [*command, f"-max_total_time={int(seconds)}"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            status = process.wait(seconds + _GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    return status, path.read_bytes()[before:].decode(errors="replace")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of all harnesses together")
    parser.add_argument("--only", nargs="+", choices=BY_NAME, default=[*BY_NAME], metavar="HARNESS")
    asked = parser.parse_args()
    outcomes = []
    for name in asked.only:
        outcomes.append(run(name, asked.minutes * 60 / len(asked.only)))
        print(json.dumps(asdict(outcomes[-1])), flush=True)  # noqa: T201
    summary = {"started": time.strftime("%F"), "harnesses": [asdict(each) for each in outcomes]}
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return int(any(each.faults or each.ends for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
