"""Window and hop by measurement: the error of each choice on trials, run as the service runs it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation import metrics
from evaluation.experiments.request import Request
from evaluation.experiments.trial_selection import read_trials
from evaluation.scoring import embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials.trials import Trials
from exporters import model_file
from exporters.publish import Windows
from service.contract import Contract

NEAR_BEST = 1.03


@dataclass(frozen=True, slots=True)
class MeasuredWindows:
    """EER of `windows` as a share, over all trials; `unscored` had too little speech."""

    windows: Windows
    eer: float
    unscored: int

    @property
    def load(self) -> float:
        """Seconds of audio through the model for each second of speech."""
        return self.windows.window_s / self.windows.hop_s


async def measure(request: Request, choices: Sequence[Windows]) -> list[MeasuredWindows]:
    """Measure every choice on the trials of `request`, whose model is a model file."""
    trials = read_trials(request)
    with Cache.open(request.cache) as cache, tempfile.TemporaryDirectory() as folder:
        return [
            await _measure(request, trials, cache, choice, Path(folder) / "model.onnx")
            for choice in choices
        ]


async def _measure(
    request: Request, trials: Trials, cache: Cache, choice: Windows, path: Path
) -> MeasuredWindows:
    graph, contract = model_file.read(request.model)
    model_file.write(path, graph, apply(contract, choice))
    label = f"window {choice.window_s:g} s, hop {choice.hop_s:g} s"
    async with SaysoModel.open(path, device=request.device) as model:
        voices = await embeddings.embed(model, trials.clips, cache, label=label)
    scored = scores.score(trials, voices)
    cosine, target = scored.measures.cosine, scored.trials.target
    sweep = metrics.Sweep.of(cosine[target], cosine[~target])
    return MeasuredWindows(choice, metrics.eer(sweep), scored.unscored)


def apply(contract: Contract, windows: Windows) -> Contract:
    """Put other windows into `contract`, and drop the calibration fitted on the old ones."""
    rate = contract.sample_rate
    return dataclasses.replace(
        contract,
        window_samples=round(windows.window_s * rate),
        hop_samples=round(windows.hop_s * rate),
        min_speech_samples=round(windows.min_speech_s * rate),
        short_windows=tuple(sorted(round(short * rate) for short in windows.short_s)),
        calibration=None,
        operating_point=None,
    )


def choose_best(measured: Sequence[MeasuredWindows]) -> MeasuredWindows:
    """Choose the cheapest windows whose EER is within 3% of the least, the shorter if equal."""
    least = min(choice.eer for choice in measured)
    near = [choice for choice in measured if choice.eer <= NEAR_BEST * least]
    return min(near, key=lambda choice: (choice.load, choice.windows.window_s))


def list_choices(
    windows_s: Sequence[float], *, overlaps: Sequence[float], min_speech_s: float
) -> list[Windows]:
    """Combine every window with every overlap (0 to below 1); shorter ones become short windows."""
    ordered = sorted(windows_s)
    return [
        Windows(
            window_s,
            round(window_s * (1 - overlap), 3),
            min_speech_s,
            tuple(short for short in ordered if short < window_s),
        )
        for window_s in ordered
        for overlap in overlaps
    ]
