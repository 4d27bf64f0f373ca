"""What a benchmark writes: figures, and the targets that they are compared with."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

Figure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aim:
    """A target, and on which side of it a figure should be; the target itself meets it."""

    value: float
    under: bool

    def met_by(self, value: float) -> bool:
        return value <= self.value if self.under else value >= self.value


def below(value: float) -> Aim:
    return Aim(value, under=True)


def above(value: float) -> Aim:
    return Aim(value, under=False)


def figure(name: str, values: Sequence[float], unit: str, aim: Aim | None, how: str) -> Figure:
    """Make a figure of `values`: their median, whether it meets the aim, and their spread."""
    value = round(statistics.median(values), 3)
    spread = [round(min(values), 3), round(max(values), 3)] if len(values) > 1 else None
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "target": None if aim is None else aim.value,
        "holds": None if aim is None else aim.met_by(value),
        "spread": spread,
        "how": how,
    }


def merge(name: str, prefix: str, figures: Sequence[Figure]) -> None:
    """Write figures, and keep those of the file whose names begin otherwise."""
    path = RESULTS / f"{name}.json"
    present = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    write(name, [*(one for one in present if not one["name"].startswith(prefix)), *figures])


def write(name: str, figures: Sequence[Figure]) -> None:
    """Write figures to `results/<name>.json`, and print them."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(list(figures), indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    for each in figures:
        target = "" if each["target"] is None else f"target {each['target']:g}: {each['holds']}"
        print(f"{each['name']:36} {each['value']:>12,g} {each['unit']:10} {target}")
