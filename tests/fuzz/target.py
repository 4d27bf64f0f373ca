"""One harness under atheris: `python -m tests.fuzz.target NAME FOLDER [libFuzzer's flags]`.

    FOLDER/corpus   seeds, and what reached new code since
    FOLDER/faults   an input, and the traceback, of each place where a check failed

A fault does not end the run: the next input follows. A crash, a hang or too much memory does, and
libFuzzer leaves the input in FOLDER.
"""

import hashlib
import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType

import atheris  # type: ignore[import-untyped]

from tests.fuzz.harness import MAX_BYTES, Change, Check, Harness

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 20
RESIDENT_MB = 1_024

with atheris.instrument_imports(include=["service", "jwt"], enable_loader_override=False):
    from tests.fuzz.every import BY_NAME


class Faults:
    """Failed checks by the place that raised, in files as they come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._met = Counter[str]()

    def keep(self, data: bytes, fault: BaseException) -> None:
        first = fault.__cause__ or fault
        place = f"{type(first).__name__} at {_place(first.__traceback__)}"
        self._met[place] += 1
        if self._met[place] > 1:
            return
        path = self._folder / hashlib.sha256(place.encode()).hexdigest()[:12]
        path.with_suffix(".bin").write_bytes(data)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(fault)))
        (self._folder / "places.json").write_text(json.dumps(dict(self._met), indent=1))


def _place(trace: TracebackType | None) -> str:
    """The innermost line of this project."""
    found = "nowhere"
    for frame, line in traceback.walk_tb(trace):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts:
            found = f"{path.relative_to(ROOT)}:{line}"
    return found


def checked(check: Check, faults: Faults) -> Check:
    def one_input(data: bytes) -> None:
        try:
            check(data)
        except Exception as fault:
            faults.keep(data, fault)

    return one_input


def mutator(change: Change) -> Callable[[bytes, int, int], bytes]:
    """Every other mutation is the harness's own."""

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        chance = Random(seed)
        if chance.random() < 0.5:
            return change(data, chance)[:most]
        return bytes(atheris.Mutate(data, most))

    return mutated


def fuzz(harness: Harness, folder: Path, flags: list[str]) -> None:
    """Until the flags say, or for ever."""
    corpus, faults = folder / "corpus", folder / "faults"
    for made in (corpus, faults):
        made.mkdir(parents=True, exist_ok=True)
    for seed in harness.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    limits = [f"-max_len={MAX_BYTES}", f"-timeout={HANG_S}", f"-rss_limit_mb={RESIDENT_MB}"]
    paths = [f"-artifact_prefix={folder}/", str(corpus)]
    with harness.opened() as check:
        argv = [sys.argv[0], "-print_final_stats=1", *limits, *flags, *paths]
        own = {"custom_mutator": mutator(harness.change)} if harness.change else {}
        atheris.Setup(argv, checked(check, Faults(faults)), **own)
        atheris.Fuzz()


if __name__ == "__main__":
    name, folder, *flags = sys.argv[1:]
    fuzz(BY_NAME[name], Path(folder), flags)
