"""Train one small encoder by each objective on the same audio, and write docs/learn/objectives.md.

    python -m benchmarks.accuracy.objectives [--manifest ../shared/data/manifest.csv]

Every clip of the train split is heard at each of three speeds, as two crops through channels of
their own; that bank is made once, so all objectives learn from the same views. Each is trained from
every seed on the same number of clips, and judged on the dev speakers, which none of them chose
anything by. Results of finished runs are kept in objectives.json beside this
file, so it can be stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import pages
from training import config, losses
from training.augment import Channel
from training.config import Recipe
from training.data.batches import Batches
from training.data.library import (
    Library,
    clips_by_speaker,
    load_clips,
    load_noises,
    read_manifest,
)
from training.data.sampler import Draw, View
from training.encoders.ecapa import EcapaTdnn
from training.frontends.log_mel import LogMel
from training.learner import trainable
from training.runs.validation import Validation
from training.train import compute_learning_rate

ROOT = Path(__file__).resolve().parents[2]
PAGE, KEPT = ROOT / "docs" / "learn" / "objectives.md", Path(__file__).with_suffix(".json")
RATE_HZ, CROP_S, JUDGED_S = 16000, 1.5, 3.0
SPEEDS, VIEWS = (1.0, 0.9, 1.1), 2
SEEDS = (0, 1, 2)
CLIPS = 19_200
WIDTH, DIM = 96, 128
BALANCE = 0.3

Positives = Literal["other clips", "the same clip"]


@dataclass(frozen=True, slots=True)
class Study:
    """One row: what is learned from and how; `losses` as a recipe has them."""

    name: str
    losses: list[dict[str, Any]]
    voices: int = 32
    clips_per_voice: int = 2
    positives: Positives = "other clips"
    labelled: float = 1.0  # share of the speakers who are learned from
    pretrained: bool = False  # starts from PRETRAINING, from the same seed

    @property
    def recipe(self) -> Recipe:
        steps = CLIPS // (self.voices * self.clips_per_voice)
        return Recipe.model_validate(
            {
                "encoder": {
                    "name": "ecapa",
                    "width": WIDTH,
                    "groups": 4,
                    "stride": 2,
                    "embedding_dim": DIM,
                },
                "losses": self.losses,
                "schedule": {"steps": steps, "warmup_steps": 30, "weight_decay": 2e-2},
            }
        )


def declare_loss(name: str, **settings: Any) -> list[dict[str, Any]]:
    return [{"name": name, **settings}]


INFO_NCE = declare_loss("info_nce")
OBJECTIVES = [
    Study("contrastive, margin 1", declare_loss("contrastive")),
    Study("triplet, hard, margin 0.3", declare_loss("triplet")),
    Study("triplet, semi-hard, margin 0.3", declare_loss("triplet", mining="semi_hard")),
    Study("triplet, all, margin 0.3", declare_loss("triplet", mining="all")),
    Study("N-pair", declare_loss("n_pair")),
    Study("InfoNCE, learned temperature", INFO_NCE),
    Study("symmetric InfoNCE", declare_loss("symmetric_info_nce")),
    Study("supervised contrastive", declare_loss("supervised_contrastive")),
    Study("pairwise logistic", declare_loss("logistic")),
    Study("angular prototypical", declare_loss("angular_prototypical")),
    Study("GE2E", declare_loss("ge2e")),
    Study("AAM softmax", declare_loss("aam_softmax")),
    Study("AAM softmax, 3 sub-centres", declare_loss("aam_softmax", subcentres=3)),
    Study("AAM softmax + InfoNCE", declare_loss("aam_softmax") + INFO_NCE),
]
CHOICES = [
    Study("temperature 0.03, fixed", declare_loss("info_nce", temperature=0.03, learned=False)),
    Study("temperature 0.07, fixed", declare_loss("info_nce", temperature=0.07, learned=False)),
    Study("temperature 0.2, fixed", declare_loss("info_nce", temperature=0.2, learned=False)),
    Study("16 voices a batch", INFO_NCE, voices=16),
    Study("64 voices a batch", INFO_NCE, voices=64),
    Study("16 voices, 4 clips each", INFO_NCE, voices=16, clips_per_voice=4),
    Study("positives of the same clip", INFO_NCE, positives="the same clip"),
    Study("8 hardest negatives", declare_loss("info_nce", negatives={"hardest": 8})),
    Study("memory of centroids", declare_loss("info_nce", negatives={"memory_momentum": 0.9})),
    Study("triplet, hard, margin 0.1", declare_loss("triplet", margin=0.1)),
    Study("triplet, hard, margin 0.6", declare_loss("triplet", margin=0.6)),
]
PRETRAINING = next(study for study in CHOICES if study.positives == "the same clip")
SHARES = (0.01, 0.1, 1.0)
LABELS = [
    Study(
        f"{share:.0%} of the speakers, {'pre-trained' if pretrained else 'from nothing'}",
        INFO_NCE,
        labelled=share,
        pretrained=pretrained,
    )
    for share in SHARES
    for pretrained in (False, True)
]


@dataclass(frozen=True, slots=True)
class Bank:
    """Features (clips, speeds, views, mels, frames) float16, and each speaker's clips."""

    features: npt.NDArray[np.float16]
    clips: list[npt.NDArray[np.int_]]

    def batches(self, study: Study, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        learned = self._draw_speakers(study.labelled, seed)
        chances = np.array([len(self.clips[speaker]) for speaker in learned], float) ** BALANCE
        chances /= chances.sum()
        voices = min(study.voices, len(learned))
        for step in range(study.recipe.schedule.steps):
            rng = np.random.default_rng((seed, step))
            drawn = rng.choice(learned, voices, replace=False, p=chances)
            rows, labels = [], []
            for speaker in drawn:
                speed = int(rng.integers(len(SPEEDS)))
                for clip, view in self._choose(int(speaker), study, rng):
                    rows.append(self.features[clip, speed, view])
                    labels.append(speaker * len(SPEEDS) + speed)
            yield torch.from_numpy(np.stack(rows).astype(np.float32)), torch.tensor(labels)

    def _draw_speakers(self, share: float, seed: int) -> npt.NDArray[np.int_]:
        """Draw a share of the speakers, at least two; a seed always draws the same ones."""
        count = max(2, round(share * len(self.clips)))
        return np.random.default_rng(seed).permutation(len(self.clips))[:count]

    def _choose(
        self, speaker: int, study: Study, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        count = study.clips_per_voice
        if study.positives == "the same clip":
            clip = int(rng.choice(self.clips[speaker]))
            return [(clip, view) for view in range(count)]
        shuffled = np.resize(rng.permutation(self.clips[speaker]), count)
        return [(int(clip), int(rng.integers(VIEWS))) for clip in shuffled]


class Every:
    """Draws each clip at each speed, view by view: step t is clip t."""

    def draw(self, step: int) -> Draw:
        rng = np.random.default_rng((99, step))
        views = tuple(
            View(step, float(rng.random()), speed, 0) for speed in SPEEDS for _ in range(VIEWS)
        )
        return Draw(views, CROP_S)


@dataclass(slots=True)
class Trainer:
    bank: Bank
    judged: Validation
    folder: Path
    encoder: EcapaTdnn = field(init=False)
    embed: Any = field(init=False)

    def __post_init__(self) -> None:
        self.encoder = EcapaTdnn(mels=80, width=WIDTH, groups=4, stride=2, embedding_dim=DIM)
        self.embed = torch.compile(self.encoder, dynamic=False)

    def run(self, study: Study, seed: int) -> dict[str, float]:
        started_s = time.monotonic()
        torch.manual_seed(seed)
        fresh = EcapaTdnn(mels=80, width=WIDTH, groups=4, stride=2, embedding_dim=DIM)
        start = self._load_pretrained(seed) if study.pretrained else fresh.state_dict()
        self.encoder.load_state_dict(start)
        self._learn(study, seed)
        errors = self.judged.measure(Unit(self.encoder).eval(), torch.device("cpu"))
        took_s = time.monotonic() - started_s
        return {"recorded": errors.recorded, "crossed": errors.crossed, "took_s": took_s}

    def _load_pretrained(self, seed: int) -> dict[str, Tensor]:
        """Load the encoder after PRETRAINING from a seed; train it if no earlier run did."""
        kept = self.folder / f"pretrained-{seed}.pt"
        if not kept.exists():
            self.run(PRETRAINING, seed)
            torch.save(self.encoder.state_dict(), kept)
        state: dict[str, Tensor] = torch.load(kept, weights_only=True)
        return state

    def _learn(self, study: Study, seed: int) -> None:
        self.encoder.train()
        recipe = study.recipe
        objective = losses.build(recipe, len(self.bank.clips) * len(SPEEDS))
        parameters = trainable(self.encoder, objective)
        optimizer = torch.optim.AdamW(parameters, weight_decay=recipe.schedule.weight_decay)
        for step, (features, labels) in enumerate(self.bank.batches(study, seed)):
            for group in optimizer.param_groups:
                group["lr"] = compute_learning_rate(recipe.schedule, step)
            embeddings = functional.normalize(self.embed(features), dim=1)
            loss, _ = objective(embeddings, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, recipe.schedule.gradient_norm)
            optimizer.step()


class Unit(nn.Module):
    """The encoder on features, to unit length."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(self.encoder(features), dim=1)


def read(manifest: Path, split: str) -> Library:
    return load_clips(read_manifest(manifest, split), RATE_HZ)


def prepare(manifest: Path, cache: Path) -> tuple[Bank, Validation]:
    learned, dev = read(manifest, "train"), read(manifest, "dev")
    noises = load_noises(manifest.parent / "noise", RATE_HZ)
    channel = Channel(config.Augmentation(), RATE_HZ, noises, learned.audio)
    front_end = LogMel()
    judged = Validation(dev, channel, samples=round(JUDGED_S * RATE_HZ), seed=0)
    groups = [np.asarray(group) for group in clips_by_speaker(learned.clips).values()]
    cache.parent.mkdir(parents=True, exist_ok=True)
    if not cache.exists():
        np.save(cache, make_views(learned, channel, front_end))
    return Bank(np.load(cache, mmap_mode="r"), groups), judged.through(front_end)


def make_views(library: Library, channel: Channel, front_end: LogMel) -> npt.NDArray[np.float16]:
    batches = Batches(library, Every(), channel, sample_rate_hz=RATE_HZ, seed=99)
    made = []
    with torch.inference_mode():
        for clip in range(len(library.clips)):
            made.append(front_end(batches[clip].waveforms).half().numpy())
            if clip % 1000 == 0:
                say(f"bank: {clip} of {len(library.clips)} clips")
    stacked = np.stack(made)
    return stacked.reshape(len(made), len(SPEEDS), VIEWS, *stacked.shape[2:])


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def format_row(name: str, runs: dict[str, dict[str, float]]) -> str:
    cells = []
    for kind in ("recorded", "crossed"):
        values = np.array([run[kind] for run in runs.values()])
        cells.append(f"{values.mean():.1%} ± {values.std(ddof=1):.1%}" if len(values) > 1 else "")
    return f"| {name} | {' | '.join(cells)} |"


def render_page(kept: dict[str, dict[str, dict[str, float]]]) -> str:
    head = "| {} | as recorded | cross-channel |\n|---|---|---|"
    tables = []
    for title, studies in (("objective", OBJECTIVES), ("choice", CHOICES), ("labels", LABELS)):
        rows = [format_row(s.name, kept[s.name]) for s in studies if len(kept.get(s.name, {})) > 1]
        tables.append("\n".join([head.format(title), *rows]))
    return "\n\n".join(tables) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--manifest", type=Path, default=ROOT.parent / "shared/data/manifest.csv")
    parser.add_argument("--bank", type=Path, default=ROOT / "build" / "objectives" / "bank.npy")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    trainer = Trainer(*prepare(arguments.manifest, arguments.bank), arguments.bank.parent)
    for seed in SEEDS:
        for study in OBJECTIVES + CHOICES + LABELS:
            runs = kept.setdefault(study.name, {})
            if str(seed) not in runs:
                runs[str(seed)] = trainer.run(study, seed)
                KEPT.write_text(json.dumps(kept, indent=1) + "\n")
                say(f"{study.name}, seed {seed}: {runs[str(seed)]}")
    pages.write_measured(PAGE, render_page(kept))


if __name__ == "__main__":
    main()
