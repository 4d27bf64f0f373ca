"""What a frozen encoder's embeddings tell apart beside speakers, by linear probes.

The loss that an encoder was trained by does not say what it is good for. The word is of use to
other tasks; the corpus, with its rooms, microphones and languages, is what a speaker encoder
should tell no better than it must. Alain and Bengio 2016, arXiv 1610.01644.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from training import embedding, encoders
from training.checkpoint import Checkpoint
from training.data import Clip, Library
from training.encoders.pooling import Statistics
from training.errors import ManifestError
from training.frontend import LogMel
from training.words import word_of

FOLDS = 4
ROUNDS = 5000
CORPUS = "corpus"


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be told of which clips (by number), and the answers."""

    name: str
    clips: tuple[int, ...]
    answers: tuple[str, ...]

    @property
    def chance(self) -> float:
        """The balanced accuracy of any guess that does not hear the clip."""
        return 1 / len(set(self.answers))


@dataclass(frozen=True, slots=True)
class Probed:
    """Balanced accuracies, the mean over classes of the share told right, as shares; `log_mel` is
    that of the mean and deviation of the log-mel features over time."""

    task: str
    classes: int
    speakers: int
    clips: int
    chance: float
    log_mel: float
    encoder: float


class LogMelStatistics(nn.Module):
    """Waveform (batch, samples) to mean and deviation of its log-mel, (batch, 2 * mels)."""

    def __init__(self, front_end: LogMel) -> None:
        super().__init__()
        self.front_end = front_end
        self.statistics = Statistics()

    def forward(self, waveform: Tensor) -> Tensor:
        made: Tensor = self.statistics(self.front_end.uncentred(waveform))
        return made


def tasks(clips: Sequence[Clip]) -> list[Task]:
    """The word within each corpus that tells it, then the corpus of all clips.

    An answer that under four speakers give is left out, and so is a task with a single answer.
    """
    asked: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, clip in enumerate(clips):
        word = word_of(clip)
        if word is not None:
            asked[f"word in {clip.corpus}"].append((number, word))
    everything = [(number, clip.corpus) for number, clip in enumerate(clips)]
    found = [*sorted(asked.items()), (CORPUS, everything)]
    made = (_task(name, answers, clips) for name, answers in found)
    return [task for task in made if task.chance < 1]


def _task(name: str, asked: Sequence[tuple[int, str]], clips: Sequence[Clip]) -> Task:
    givers: defaultdict[str, set[str]] = defaultdict(set)
    for number, answer in asked:
        givers[answer].add(clips[number].speaker)
    kept = [(number, answer) for number, answer in asked if len(givers[answer]) >= FOLDS]
    return Task(name, tuple(number for number, _ in kept), tuple(answer for _, answer in kept))


def told_apart(
    features: npt.NDArray[np.float64], answers: Sequence[str], speakers: Sequence[str], *, seed: int
) -> float:
    """Balanced accuracy of multinomial logistic regression on standardised (clips, dim), each clip
    told by a probe that never heard its speaker: four folds of speakers, drawn from the seed."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=ROUNDS)
    )
    told = cross_val_predict(probe, features, answers, groups=speakers, cv=folds)
    return float(balanced_accuracy_score(answers, told))


def probe(kept: Checkpoint, library: Library, device: torch.device, *, seed: int) -> list[Probed]:
    """Every task that the clips allow; ManifestError when they allow none."""
    asked = tasks(library.clips)
    if not asked:
        raise ManifestError(
            "nothing to probe: it takes two corpora, or two words that file names tell "
            f"(training/words.py), with at least {FOLDS} speakers each"
        )
    rate_hz = kept.recipe.front_end.sample_rate_hz
    heard = (LogMelStatistics(encoders.build(kept.recipe).front_end), embedding.measured(kept))
    log_mel, encoder = (
        embedding.of_clips(module, library.audio, sample_rate_hz=rate_hz, device=device)
        for module in heard
    )
    return [_probed(task, library.clips, log_mel, encoder, seed) for task in asked]


def _probed(
    task: Task,
    clips: Sequence[Clip],
    log_mel: npt.NDArray[np.float64],
    encoder: npt.NDArray[np.float64],
    seed: int,
) -> Probed:
    rows, speakers = list(task.clips), [clips[number].speaker for number in task.clips]
    return Probed(
        task=task.name,
        classes=len(set(task.answers)),
        speakers=len(set(speakers)),
        clips=len(rows),
        chance=task.chance,
        log_mel=told_apart(log_mel[rows], task.answers, speakers, seed=seed),
        encoder=told_apart(encoder[rows], task.answers, speakers, seed=seed),
    )
