"""Measure systems on the same trials, clean, telephone and noisy, beside Resemblyzer.

    python -m benchmarks.accuracy.compare_systems FOLDER models/sayso.onnx [MODEL.onnx ...]

The first model is the one that the target is for; Resemblyzer's own pipeline and mean-and-deviation
MFCC are always beside it. Writes FOLDER/systems.json and FOLDER/systems.md, both again after every
row, so that a run that is stopped leaves the rows that it finished. Embeddings are cached. With
--record the EERs on all speech go to benchmarks/results/systems.json, which the README shows.
"""

import argparse
import asyncio
import json
import warnings
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks import figures
from benchmarks.accuracy import systems, systems_page
from benchmarks.accuracy.resemblyzer_pipeline import ResemblyzerPipeline
from benchmarks.accuracy.systems import Contestant, SettingRow
from benchmarks.accuracy.systems_page import REFERENCE
from evaluation.experiments import condition_grid
from evaluation.scoring import baseline, cache, embeddings
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest
from evaluation.trials.manifest import Clip
from service.audio.speech import VoiceActivity

ROOT = Path(__file__).resolve().parents[2]
BASELINE = "MFCC"
RATE, LEAST_SPEECH_S = 16000, 0.5


async def compare(arguments: argparse.Namespace) -> None:
    clips = manifest.read(arguments.manifest, arguments.split)
    mfcc = baseline.MfccStatistics(VoiceActivity.open(), rate=RATE, min_speech_s=LEAST_SPEECH_S)
    with Cache.open(arguments.cache) as kept:
        async with AsyncExitStack() as stack:
            contestants = [
                Contestant(model.model_id, model)
                for path in arguments.models
                for model in [await stack.enter_async_context(SaysoModel.open(path))]
            ]
            contestants.append(Contestant(REFERENCE, ResemblyzerPipeline()))
            contestants.append(Contestant(BASELINE, mfcc, baseline.standardize))
            recorded = await embeddings.embed(mfcc, clips, kept, label="net speech")
            rows = systems.sample_clips(
                clips,
                recorded.speech_s,
                long=arguments.long,
                short=arguments.short,
                seed=arguments.seed,
            )
            chosen = [clips[row] for row in rows]
            results = Results(arguments, contestants, chosen)
            await systems.measure(
                contestants,
                chosen,
                recorded.speech_s[rows],
                kept,
                reference=REFERENCE,
                lengths_s=condition_grid.parse_lengths(arguments.speech),
                replicates=arguments.replicates,
                seed=arguments.seed,
                on_row=results.add,
            )
            if arguments.record:
                results.record()


class Results:
    """The rows so far, in both files."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        contestants: Sequence[Contestant],
        clips: Sequence[Clip],
    ) -> None:
        self._folder: Path = arguments.folder
        self._names = [contestant.name for contestant in contestants]
        self._sample = (
            f"{arguments.manifest.name}, split {arguments.split}: {arguments.long} clips of more"
            f" than {systems.LONG_S:g} s of net speech and {arguments.short} of speakers without"
            f" any, evenly over the speakers, {len(clips)} of"
            f" {len({clip.speaker for clip in clips})} speakers in all (seed {arguments.seed});"
            " every pair within a corpus, both ways; a"
            " heard side with less net speech than a length is left out of it."
        )
        self._cells: list[SettingRow] = []
        self._folder.mkdir(parents=True, exist_ok=True)

    def add(self, row: SettingRow) -> None:
        self._cells.append(row)
        document = systems_page.make_document(self._cells, self._names, self._sample)
        (self._folder / "systems.json").write_text(json.dumps(document, indent=1) + "\n")
        page = systems_page.render_page(self._cells, self._names, self._sample)
        (self._folder / "systems.md").write_text(page)

    def record(self) -> None:
        """Write the EERs on all speech to benchmarks/results/systems.json."""
        figures.write("systems", systems_page.list_figures(self._cells, self._names, self._sample))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="+", help="the first is what the target is for")
    parser.add_argument("--manifest", type=Path, default=ROOT.parent / "shared/data/manifest.csv")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--long", type=int, default=96, help="clips with more than 3 s of speech")
    parser.add_argument("--short", type=int, default=32, help="clips of speakers without any such")
    parser.add_argument("--speech", default="3,full,1,2,5", help="net speech heard, seconds")
    parser.add_argument("--cache", type=Path, default=cache.default_path())
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results, too")
    warnings.simplefilter("ignore")
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
