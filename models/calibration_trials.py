"""Makes the trials that the shipped model's calibration is fitted on.

    python models/calibration_trials.py MANIFEST FOLDER

A service enrols from several recordings and verifies one, so each speaker of the dev split is
enrolled from about 1, 3, 6 and 12 s of clips, three times each, and tried against clips that are
in none of them: its own, and those of other speakers of its corpus. Every speaker weighs about the
same, however many clips it has. Writes `trials.txt` and `enrolments.txt`, for
`sayso-export calibrate --trials --enrolments`.
"""

import csv
import random
import sys
from collections import defaultdict
from pathlib import Path

LENGTHS_S = (1.0, 3.0, 6.0, 12.0)
MODELS_PER_LENGTH = 3
TARGETS_PER_MODEL = 20
NONTARGETS_PER_MODEL = 80


def main(manifest: Path, folder: Path) -> None:
    clips = defaultdict(list)
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "dev":
                clips[row["corpus"], row["speaker"]].append(row)
    draw = random.Random(0)  # noqa: S311
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "trials.txt").open("w") as trials,
        (folder / "enrolments.txt").open("w") as enrolments,
    ):
        for (corpus, speaker), own in sorted(clips.items()):
            others = [
                row
                for (where, who), rows in sorted(clips.items())
                if where == corpus and who != speaker
                for row in rows
            ]
            for length_s in LENGTHS_S:
                for number in range(MODELS_PER_LENGTH):
                    shuffled = draw.sample(own, len(own))
                    enrolled, rest = take(shuffled, length_s)
                    if not rest:
                        continue
                    model = f"{corpus}/{speaker}/{length_s:g}s-{number}"
                    enrolments.write(" ".join([model, *(row["path"] for row in enrolled)]) + "\n")
                    for row in rest[:TARGETS_PER_MODEL]:
                        trials.write(f"{model} {row['path']} target\n")
                    for row in draw.sample(others, min(NONTARGETS_PER_MODEL, len(others))):
                        trials.write(f"{model} {row['path']} nontarget\n")


def take(rows: list[dict[str, str]], seconds: float) -> tuple[list[dict[str, str]], ...]:
    """The first rows that last `seconds` together, at least one, and the rest."""
    total_s = 0.0
    for count, row in enumerate(rows, 1):
        total_s += float(row["seconds"])
        if total_s >= seconds:
            return rows[:count], rows[count:]
    return rows, []


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
