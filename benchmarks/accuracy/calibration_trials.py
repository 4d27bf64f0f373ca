"""Make the trials that a shipped model's calibration is fitted on, and its promise checked on.

    python -m benchmarks.accuracy.calibration_trials MANIFEST FOLDER

A service enrols from several recordings and verifies one, so each speaker of the dev split is
enrolled from about 1, 3, 6 and 12 s of clips, three times each, and tried against clips that are
in none of them: its own, and those of other speakers of its corpus. At most 640 clips are taken,
evenly over the speakers. Writes `trials.txt` and `enrollments.txt`, for
`sayso-export calibrate --trials --enrollments`.
"""

import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from evaluation.trials import manifest, sampling
from evaluation.trials.manifest import Clip, Speaker

CLIPS = 640
LENGTHS_S = (1.0, 3.0, 6.0, 12.0)
MODELS_PER_LENGTH = 3
TARGETS_PER_MODEL = 20
NONTARGETS_PER_MODEL = 80


def main(table: Path, folder: Path) -> None:
    clips: dict[Speaker, list[Clip]] = defaultdict(list)
    for clip in sampling.sample_balanced(manifest.read(table, "dev"), CLIPS):
        clips[clip.speaker].append(clip)
    draw = random.Random(0)  # noqa: S311
    folder.mkdir(parents=True, exist_ok=True)
    trials, enrollments = [], []
    for speaker, own in sorted(clips.items()):
        others = [
            clip
            for other, theirs in sorted(clips.items())
            if other.corpus == speaker.corpus and other != speaker
            for clip in theirs
        ]
        for length_s in LENGTHS_S:
            for number in range(MODELS_PER_LENGTH):
                enrolled, rest = take(draw.sample(own, len(own)), length_s)
                if not rest:
                    continue
                model = f"{speaker}/{length_s:g}s-{number}"
                enrollments.append(" ".join([model, *(clip.name for clip in enrolled)]))
                impostors = draw.sample(others, min(NONTARGETS_PER_MODEL, len(others)))
                trials += [f"{model} {clip.name} target" for clip in rest[:TARGETS_PER_MODEL]]
                trials += [f"{model} {clip.name} nontarget" for clip in impostors]
    (folder / "trials.txt").write_text("\n".join(trials) + "\n")
    (folder / "enrollments.txt").write_text("\n".join(enrollments) + "\n")


def take(clips: Sequence[Clip], seconds: float) -> tuple[Sequence[Clip], Sequence[Clip]]:
    """Split off the first clips that last `seconds` together, at least one; return them and the
    rest."""
    total_s = 0.0
    for count, clip in enumerate(clips, 1):
        total_s += float(clip.labels["seconds"])
        if total_s >= seconds:
            return clips[:count], clips[count:]
    return clips, ()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
