"""What a frozen encoder's embeddings tell apart beside speakers, by linear probes.

The loss that an encoder was trained by does not say what it is good for. The word is of use to
other find_tasks; the corpus, with its rooms, microphones and languages, is what a speaker encoder
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
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from training import frontends
from training.analysis import embedding
from training.analysis.words import read_word
from training.data.library import Clip, Library
from training.encoders.pooling import Statistics
from training.errors import ManifestError
from training.frontends.log_mel import LogMel
from training.runs.checkpoint import Checkpoint

FOLDS = 4
ROUNDS = 5000
CORPUS = "corpus"
REPLICATES = 1000
INTERVAL = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Task:
    """A question about clips (by number), with the right answers."""

    name: str
    clips: tuple[int, ...]
    answers: tuple[str, ...]

    @property
    def chance(self) -> float:
        """The balanced accuracy of guessing."""
        return 1 / len(set(self.answers))


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A balanced accuracy (the mean over classes of the share answered right) and its 95% interval.

    The interval is a bootstrap over speakers; the probe is not fitted again.
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How well a task is solved; `log_mel` from the mean and deviation of the log-mel features
    alone."""

    task: str
    classes: int
    speakers: int
    clips: int
    chance: float
    log_mel: Accuracy
    encoder: Accuracy


class LogMelStatistics(nn.Module):
    """Waveform (batch, samples) to mean and deviation of its log-mel, (batch, 2 * mels)."""

    def __init__(self, front_end: LogMel) -> None:
        super().__init__()
        self.front_end = front_end
        self.statistics = Statistics()

    def forward(self, waveform: Tensor) -> Tensor:
        statistics: Tensor = self.statistics(self.front_end.without_mean_removal(waveform))
        return statistics


def find_tasks(clips: Sequence[Clip]) -> list[Task]:
    """The spoken word within each corpus that names its files by it, then the corpus of every clip.

    An answer given by under four speakers is left out, and so is a task with a single answer.
    """
    answers_by_task: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, clip in enumerate(clips):
        word = read_word(clip)
        if word is not None:
            answers_by_task[f"word in {clip.corpus}"].append((number, word))
    everything = [(number, clip.corpus) for number, clip in enumerate(clips)]
    all_tasks = [*sorted(answers_by_task.items()), (CORPUS, everything)]
    candidates = (_task(name, answers, clips) for name, answers in all_tasks)
    return [task for task in candidates if task.chance < 1]


def _task(name: str, numbered: Sequence[tuple[int, str]], clips: Sequence[Clip]) -> Task:
    givers: defaultdict[str, set[str]] = defaultdict(set)
    for number, answer in numbered:
        givers[answer].add(clips[number].speaker)
    common = [(number, answer) for number, answer in numbered if len(givers[answer]) >= FOLDS]
    return Task(name, tuple(number for number, _ in common), tuple(answer for _, answer in common))


def tell_apart(
    features: npt.NDArray[np.float64], answers: Sequence[str], speakers: Sequence[str], *, seed: int
) -> Accuracy:
    """Multinomial logistic regression on standardized features (clips, dim), cross-validated over
    four folds of speakers drawn from the seed, so that no probe is asked about a speaker it was
    fitted on."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=ROUNDS)
    )
    predicted = cross_val_predict(probe, features, answers, groups=speakers, cv=folds)
    right = predicted == np.asarray(answers)
    low, high = np.quantile(_draw_replicates(right, answers, speakers, seed), INTERVAL)
    whole = _balance_accuracy(
        *_count_right(right, answers, speakers), np.ones((1, len(set(speakers))))
    )
    return Accuracy(float(whole[0]), float(low), float(high))


def _draw_replicates(
    right: npt.NDArray[np.bool_], answers: Sequence[str], speakers: Sequence[str], seed: int
) -> npt.NDArray[np.float64]:
    """Balanced accuracies (replicates,), each over as many speakers, drawn with replacement."""
    count = len(set(speakers))
    draws = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=REPLICATES)
    return _balance_accuracy(*_count_right(right, answers, speakers), draws)


def _count_right(
    right: npt.NDArray[np.bool_], answers: Sequence[str], speakers: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Clips answered right, and all clips, each (speakers, classes)."""
    rows = np.unique(speakers, return_inverse=True)[1]
    columns = np.unique(answers, return_inverse=True)[1]
    hits, clips = np.zeros((2, rows.max() + 1, columns.max() + 1))
    np.add.at(hits, (rows, columns), right)
    np.add.at(clips, (rows, columns), 1)
    return hits, clips


def _balance_accuracy(
    hits: npt.NDArray[np.float64], clips: npt.NDArray[np.float64], weights: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Balanced accuracies (replicates,) with speakers weighted by `weights` (replicates, speakers);
    a class that a replicate has no clip of is left out of its mean."""
    weights = np.asarray(weights, np.float64)
    given = weights @ clips
    shares = np.divide(weights @ hits, given, out=np.full_like(given, np.nan), where=given > 0)
    means: npt.NDArray[np.float64] = np.nanmean(shares, axis=1)
    return means


def probe(
    state: Checkpoint, library: Library, device: torch.device, *, seed: int
) -> list[TaskResult]:
    """Solve every task that the clips allow; ManifestError if they allow none."""
    probed = find_tasks(library.clips)
    if not probed:
        raise ManifestError(
            "nothing to probe: it takes two corpora, or two words that file names tell "
            f"(training/analysis/words.py), with at least {FOLDS} speakers each"
        )
    rate_hz = state.recipe.front_end.sample_rate_hz
    modules = (
        LogMelStatistics(frontends.log_mel(state.recipe.front_end)),
        embedding.for_validation(state),
    )
    log_mel, encoder = (
        embedding.embed_clips(module, library.audio, sample_rate_hz=rate_hz, device=device)
        for module in modules
    )
    return [_probe_task(task, library.clips, log_mel, encoder, seed) for task in probed]


def _probe_task(
    task: Task,
    clips: Sequence[Clip],
    log_mel: npt.NDArray[np.float64],
    encoder: npt.NDArray[np.float64],
    seed: int,
) -> TaskResult:
    rows, speakers = list(task.clips), [clips[number].speaker for number in task.clips]
    return TaskResult(
        task=task.name,
        classes=len(set(task.answers)),
        speakers=len(set(speakers)),
        clips=len(rows),
        chance=task.chance,
        log_mel=tell_apart(log_mel[rows], task.answers, speakers, seed=seed),
        encoder=tell_apart(encoder[rows], task.answers, speakers, seed=seed),
    )
