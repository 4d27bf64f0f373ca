"""Measure how fast training goes, beside its model alone and beside SpeechBrain's ECAPA-TDNN.

    python -m benchmarks.speed.train [--device cpu] [--width 256] [--voices 16] [--repeats 5]
        [--steps 4]

Writes benchmarks/results/train.json; figures of another device stay there. The whole step draws,
augments and loads a batch in other processes while the model learns from the one before; the bare
step learns from one batch again and again. All take turns in every repeat. Clips are made of noise:
what is done to a clip takes as long whatever is said in it.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from benchmarks.figures import Figure, above, figure, merge
from training import config
from training.commands.options import Device, settle
from training.config import Recipe
from training.data.batches import Batch, stream
from training.data.library import Clip, Library, Pcm
from training.encoders import SpeakerEncoder
from training.learner import Learner, follow, make_learner, trainable
from training.runs.material import Material, prepare

BASE = "first"
DIMENSION = 192
LEAST_VOICES, CLIPS_PER_VOICE, CLIP_S = 48, 4, 4.0
NOISES, NOISE_S = 20, 5.0
AHEAD = 4  # batches that a worker prepares before they are asked for
DECAY = 0.999
PREFIX = "train"


@dataclass(frozen=True, slots=True)
class Load:
    """`steps` are timed at a time; a batch has two clips of `crop_s` of each of `voices`."""

    device: torch.device
    width: int
    voices: int
    crop_s: float
    workers: int
    steps: int
    repeats: int
    compiled: bool = False

    @property
    def recipe(self) -> Recipe:
        base = config.load(BASE)
        sampling = {"speakers": self.voices, "crop_s": (self.crop_s,), "clips_per_speaker": 2}
        return base.model_copy(
            update={
                "encoder": config.Ecapa(
                    name="ecapa", width=self.width, groups=8, stride=1, embedding_dim=DIMENSION
                ),
                "sampling": base.sampling.model_copy(update=sampling),
            }
        )

    def describe(self) -> str:
        return (
            f"ECAPA-TDNN of width {self.width}, batches of {2 * self.voices} clips of "
            f"{self.crop_s:g} s, {self.workers} loading processes, medians of {self.repeats} turns "
            f"of {self.steps} steps"
        )


def make_clips(voices: int, chance: np.random.Generator) -> Library:
    """Make clips of more voices than a batch has, so that enough remain without those held out."""
    count = max(3 * voices, LEAST_VOICES)
    names = [f"made/{number}" for number in range(count) for _ in range(CLIPS_PER_VOICE)]
    clips = tuple(Clip(Path(f"{n}.wav"), "made", name) for n, name in enumerate(names))
    return Library(clips, make_noises(len(clips), CLIP_S, chance))


def make_noises(count: int, seconds: float, chance: np.random.Generator) -> tuple[Pcm, ...]:
    samples = round(seconds * 16000)
    return tuple(chance.integers(-8000, 8000, samples).astype(np.int16) for _ in range(count))


class SpeechBrainEcapa(nn.Module):
    """SpeechBrain's features without their mean, and its encoder of the same width.

    Waveform (batch, samples) to embedding (batch, dim) of unit length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from speechbrain.lobes.features import Fbank  # noqa: PLC0415 - optional
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN  # noqa: PLC0415
        from speechbrain.processing.features import InputNormalization  # noqa: PLC0415

        self.features = Fbank(n_mels=80)
        self.centre = InputNormalization(norm_type="sentence", std_norm=False)
        self.encoder = ECAPA_TDNN(80, lin_neurons=DIMENSION, channels=[*[width] * 4, 3 * width])

    def forward(self, waveform: Tensor) -> Tensor:
        whole = torch.ones(len(waveform), device=waveform.device)
        with torch.autocast(waveform.device.type, enabled=False):
            features = self.centre(self.features(waveform), whole)  # (batch, frames, mels)
        return functional.normalize(self.encoder(features).squeeze(1).float(), dim=1)


def has_speechbrain() -> bool:
    return importlib.util.find_spec("speechbrain") is not None


def learn_with_speechbrain(own: Learner, width: int, device: torch.device) -> Learner:
    """Put the same losses and optimizer around SpeechBrain's encoder."""
    theirs = SpeechBrainEcapa(width).to(device)
    encoder, framework = cast("SpeakerEncoder", theirs), copy.deepcopy(own.framework)
    optimizer = torch.optim.AdamW(trainable(encoder, framework))
    return Learner(encoder, copy.deepcopy(encoder).eval(), framework, optimizer)


def make_step(learner: Learner, recipe: Recipe, *, compiled: bool) -> Callable[[Batch], None]:
    """Make what `training.train` does with a batch, without reports and validations."""
    embed = learner.encoder
    if compiled:
        embed = cast("SpeakerEncoder", torch.compile(embed, dynamic=False))
    parameters = trainable(learner.encoder, learner.framework)

    def learn(batch: Batch) -> None:
        learner.encoder.train()
        outcome = learner.framework.step(embed, batch)
        learner.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(outcome.loss)
        nn.utils.clip_grad_norm_(parameters, recipe.schedule.gradient_norm)
        learner.optimizer.step()
        learner.framework.after_step(learner.encoder)
        follow(learner.average, learner.encoder, DECAY)

    return learn


class Bench:
    """The four measurements that take turns, each in clips per second over `load.steps`."""

    def __init__(self, load: Load, chance: np.random.Generator) -> None:
        self.load, recipe = load, load.recipe
        noises = make_noises(NOISES, NOISE_S, chance)
        self.material: Material = prepare(recipe, make_clips(load.voices, chance), noises)
        self._drawn = 0
        self.batch = self.material.batches[0].to(load.device)
        own = make_learner(recipe, self.material.voices, load.device)
        self.learn = make_step(own, recipe, compiled=load.compiled)
        self.others: dict[str, Callable[[Batch], None]] = {}
        if has_speechbrain():
            other = learn_with_speechbrain(own, load.width, load.device)
            self.others["speechbrain"] = make_step(other, recipe, compiled=False)

    def measure_whole(self) -> float:
        with_model = (self._learn_from(batch) for batch in self._batches())
        return self._measure_speed(with_model)

    def measure_loader(self) -> float:
        return self._measure_speed(self._batches())

    def measure_bare(self, learn: Callable[[Batch], None]) -> float:
        learn(self.batch)
        return self._measure_speed(self._repeat(learn))

    def measure_busy(self) -> float:
        """Measure the share of the whole step's time in which the device computes or copies."""
        batches = (self._learn_from(batch) for batch in self._batches())
        next(batches)
        with profile(activities=[ProfilerActivity.CUDA]) as watched:
            self._consume(batches)
        spans = [
            (event.time_range.start, event.time_range.end)
            for event in watched.events() or ()
            if event.device_type == DeviceType.CUDA and not event.is_user_annotation
        ]
        whole = max(end for _, end in spans) - min(start for start, _ in spans)
        return float(measure_coverage(spans) / whole)

    def _learn_from(self, batch: Batch) -> Batch:
        self.learn(batch.to(self.load.device))
        return batch

    def _repeat(self, learn: Callable[[Batch], None]) -> Iterator[Batch]:
        while True:
            learn(self.batch)
            yield self.batch

    def _batches(self) -> Iterator[Batch]:
        """Load new batches, at full speed to the end: the loader always has more to prepare."""
        ahead = AHEAD * self.load.workers
        start, stop = self._drawn, self._drawn + 2 * ahead + self.load.steps + 1
        self._drawn = stop
        batches = stream(self.material.batches, start, stop, self.load.workers)
        yield from islice(batches, ahead, None)

    def _measure_speed(self, batches: Iterator[Batch]) -> float:
        next(batches)
        self._wait()
        started = time.perf_counter()
        clips = self._consume(batches)
        return clips / (time.perf_counter() - started)

    def _consume(self, batches: Iterable[Batch]) -> int:
        clips = sum(len(batch) for batch in islice(batches, self.load.steps))
        self._wait()
        return clips

    def _wait(self) -> None:
        if self.load.device.type == "cuda":
            torch.cuda.synchronize()


def measure_coverage(spans: Sequence[tuple[float, float]]) -> float:
    """Sum the length that spans cover, overlaps counted once."""
    total, reached = 0.0, -float("inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def measure(load: Load, chance: np.random.Generator) -> list[Figure]:
    bench = Bench(load, chance)
    speeds: dict[str, list[float]] = {name: [] for name in ("whole", "bare", "loader")}
    speeds |= {name: [] for name in bench.others}
    for _ in range(load.repeats):
        speeds["bare"].append(bench.measure_bare(bench.learn))
        speeds["whole"].append(bench.measure_whole())
        for name, learn in bench.others.items():
            speeds[name].append(bench.measure_bare(learn))
        speeds["loader"].append(bench.measure_loader())
    busy = [bench.measure_busy() for _ in range(load.repeats)] if load.device.type == "cuda" else []
    return _figures(load, speeds, busy)


def _figures(load: Load, speeds: dict[str, list[float]], busy: list[float]) -> list[Figure]:
    name, how = f"{PREFIX}_{load.device.type}", load.describe()
    own = "Sayso's compiled" if load.compiled else "both eager"
    cuda = load.device.type == "cuda"
    shared = "" if cuda else "; loader and model share the processor, the target is for CUDA"
    figures = [
        figure(f"{name}_whole_step", speeds["whole"], "clips/s", None, f"with loader, {how}"),
        figure(f"{name}_bare_step", speeds["bare"], "clips/s", None, f"model alone, {how}"),
        figure(f"{name}_loader", speeds["loader"], "clips/s", None, f"no model, {how}"),
        figure(
            f"{name}_whole_over_bare",
            _over(speeds["whole"], speeds["bare"]),
            "ratio",
            above(0.9) if cuda else None,
            f"whole step over bare step of the same turn, {how}{shared}",
        ),
    ]
    if "speechbrain" in speeds:
        its = "SpeechBrain's features and ECAPA-TDNN of the same width, same losses and optimiser"
        figures += [
            figure(f"{name}_speechbrain_step", speeds["speechbrain"], "clips/s", None, its),
            figure(
                f"{name}_bare_over_speechbrain",
                _over(speeds["bare"], speeds["speechbrain"]),
                "ratio",
                above(1.0),
                f"bare step over SpeechBrain's of the same turn, {own}, {how}",
            ),
        ]
    if busy:
        watched = "of the whole step's time the device computes or copies, by the profiler"
        figures.append(figure(f"{name}_busy", busy, "share", None, f"{watched}, {how}"))
    return figures


def _over(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [this / that for this, that in zip(these, those, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=Device, choices=list(Device), default=Device.AUTO)
    parser.add_argument("--threads", type=int, default=0, help="of the model; 0 is torch's default")
    parser.add_argument("--width", type=int, help="default: 256, on CUDA 1024")
    parser.add_argument("--voices", type=int, help="in a batch; default: 16, on CUDA 128")
    parser.add_argument("--crop-s", type=float, default=2.0)
    parser.add_argument("--workers", type=int, help="default: 1, on CUDA 14")
    parser.add_argument("--steps", type=int, help="timed at once; default: 4, on CUDA 40")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="Sayso's encoder only")
    arguments = parser.parse_args()
    device = settle(arguments.device, arguments.threads)
    width, voices, workers, steps = (
        (1024, 128, 14, 40) if device.type == "cuda" else (256, 16, 1, 4)
    )
    load = Load(
        device,
        width=arguments.width or width,
        voices=arguments.voices or voices,
        crop_s=arguments.crop_s,
        workers=workers if arguments.workers is None else arguments.workers,
        steps=arguments.steps or steps,
        repeats=arguments.repeats,
        compiled=arguments.compile,
    )
    if not has_speechbrain():
        print("speechbrain is not installed: its step is left out")
    figures = measure(load, np.random.default_rng(0))
    merge("train", f"{PREFIX}_{device.type}", figures)


if __name__ == "__main__":
    main()
