from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from tests.support.small_runs import recipe_of, run_training
from training import frontends
from training.analysis import embedding, probe
from training.data.library import Clip, Library
from training.errors import ManifestError
from training.runs import checkpoint
from training.runs.checkpoint import Checkpoint

LOSS = '[[losses]]\nname = "info_nce"\n'
CPU = torch.device("cpu")
RATE_HZ = 16000
TONES_HZ = {"low": 500, "high": 2000}


@pytest.fixture(scope="module")
def words() -> Library:
    """Six speakers of two corpora, who differ in level; words are beeps in noise."""
    clips, audio = [], []
    time_s = np.arange(RATE_HZ // 2) / RATE_HZ
    for speaker in range(12):
        rng = np.random.default_rng(speaker)
        corpus = ("fsdd", "speech_commands")[speaker % 2]
        for word, hz in TONES_HZ.items():
            for take in range(2):
                name = Path(f"s{speaker}/{word}-{take}.wav")
                clips.append(Clip(name, corpus, f"{corpus}/s{speaker}"))
                beeps = np.sin(2 * np.pi * hz * time_s) * (time_s * 10 % 1 < 0.5)
                wave = beeps + rng.normal(0, 0.1, time_s.size)
                audio.append((rng.uniform(1000, 8000) * wave).astype(np.int16))
    return Library(tuple(clips), tuple(audio))


@pytest.fixture(scope="module")
def trained(sittings: Library, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("run")
    run_training(recipe_of(LOSS, steps="2", validate_every="2"), sittings, folder)
    return checkpoint.load(folder / "last.pt")


def test_words_are_asked_of_corpora_that_tell_them(words: Library) -> None:
    extra = [
        Clip(Path("s/high-0.wav"), "librispeech", f"librispeech/{place}") for place in range(3)
    ]
    rare = [Clip(Path("s/odd-0.wav"), "fsdd", f"fsdd/s{place}") for place in (0, 2, 4)]
    asked = {task.name: task for task in probe.find_tasks([*words.clips, *rare, *extra])}
    assert list(asked) == ["word in fsdd", "word in speech_commands", "corpus"]
    assert set(asked["word in fsdd"].answers) == {"low", "high"}
    assert set(asked["corpus"].answers) == {"fsdd", "speech_commands"}
    assert len(asked["corpus"].clips) == len(words.clips) + len(rare)
    assert asked["corpus"].chance == 0.5


def test_a_word_is_told_by_its_spectrum_and_no_corpus_that_is_not_there(
    words: Library, trained: Checkpoint
) -> None:
    found = {one.task: one for one in probe.probe(trained, words, CPU, seed=0)}
    word, corpus = found["word in fsdd"], found["corpus"]
    assert (word.classes, word.speakers, word.clips, word.chance) == (2, 6, 24, 0.5)
    assert word.log_mel == probe.Accuracy(1.0, 1.0, 1.0)
    assert word.encoder.share > 0.75
    assert (corpus.speakers, corpus.clips) == (12, 48)
    assert 0.2 < corpus.log_mel.share < 0.8


def test_a_probe_does_not_tell_an_answer_by_its_speakers() -> None:
    """Features that are the speaker say nothing of answers that were drawn for each speaker."""
    speakers = [f"s{place}" for place in range(16) for _ in range(4)]
    answers = [("a", "b")[place % 2] for place in range(16) for _ in range(4)]
    features = np.repeat(np.eye(16), 4, axis=0)
    assert probe.tell_apart(features, answers, speakers, seed=0).share <= 0.75


def test_the_interval_is_that_of_speakers_rather_than_of_clips() -> None:
    """Twenty clips of a speaker, all told alike, say no more than one."""
    speakers = [f"s{place}" for place in range(20) for _ in range(20)]
    answers = [("a", "b")[place % 2] for place in range(20) for _ in range(20)]
    rng = np.random.default_rng(1)
    guesses = np.repeat(rng.normal(size=(20, 1)), 20, axis=0)
    embed_clips = rng.normal(size=(400, 1))
    told, spread = (
        probe.tell_apart(features, answers, speakers, seed=0) for features in (guesses, embed_clips)
    )
    assert told.low <= told.share <= told.high
    assert told.high - told.low > 2 * (spread.high - spread.low)


def test_the_share_is_the_balanced_accuracy() -> None:
    rng = np.random.default_rng(0)
    speakers = [f"s{place}" for place in range(12) for _ in range(6)]
    answers = ["a" if rng.random() < 0.8 else "b" for _ in speakers]
    right = rng.random(len(answers)) < 0.6
    told = np.where(right, answers, np.where(np.array(answers) == "a", "b", "a"))
    counted = probe._count_right(right, answers, speakers)
    [share] = probe._balance_accuracy(*counted, np.ones((1, 12)))
    assert share == pytest.approx(balanced_accuracy_score(answers, told))


def test_the_yardstick_is_the_features_before_their_mean_is_removed(words: Library) -> None:
    front_end = frontends.log_mel(recipe_of(LOSS).front_end)
    waveforms = torch.randn(2, RATE_HZ) * torch.tensor([[0.1], [0.2]])
    mean, deviation = probe.LogMelStatistics(front_end)(waveforms).chunk(2, dim=1)
    centered = front_end(waveforms)
    assert mean.abs().min() > 0.1
    torch.testing.assert_close(
        front_end.without_mean_removal(waveforms) - mean[..., None], centered
    )
    torch.testing.assert_close(
        deviation, centered.square().mean(dim=2).sqrt(), rtol=1e-3, atol=1e-3
    )


def test_nothing_to_probe_is_an_error(words: Library, trained: Checkpoint) -> None:
    clips = tuple(replace(clip, corpus="sentences") for clip in words.clips)
    with pytest.raises(ManifestError, match="two corpora"):
        probe.probe(trained, Library(clips, words.audio), CPU, seed=0)


def test_after_predictive_coding_the_frames_are_measured(trained: Checkpoint) -> None:
    cpc = '[framework]\nname = "cpc"\nchunk_frames = 10\nahead = 1\n'
    module = embedding.for_validation(replace(trained, recipe=recipe_of(cpc)))
    with torch.inference_mode():
        assert module(torch.randn(2, RATE_HZ)).shape == (2, 96)
        assert embedding.for_validation(trained)(torch.randn(2, RATE_HZ)).shape == (2, 32)
