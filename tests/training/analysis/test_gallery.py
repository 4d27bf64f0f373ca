from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from tests.support.small_runs import recipe_of, run_training
from training.analysis import gallery
from training.data.library import Clip, Library, hold_out

CPU = torch.device("cpu")


def library(**speakers: int) -> Library:
    """Four clips each of so many speakers of every corpus."""
    clips = [
        Clip(Path(f"{take}.wav"), corpus, f"{corpus}/{speaker}")
        for corpus, count in speakers.items()
        for speaker in range(count)
        for take in range(4)
    ]
    return Library(tuple(clips), tuple(np.zeros(1, np.int16) for _ in clips))


def test_corpora_take_turns() -> None:
    shown = gallery.sample(library(large=9, small=2), speakers=5, clips=3)
    assert sorted({clip.speaker for clip in shown.clips}) == [
        "large/0", "large/1", "large/2", "small/0", "small/1",
    ]  # fmt: skip
    assert len(shown.clips) == 15


def test_alike_embeddings_lie_together() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(8)[:3].repeat(20, axis=0)
    points = gallery.project_to_plane(centers + rng.normal(0, 0.05, centers.shape), seed=0)
    within = points.reshape(3, 20, 2).std(axis=1).max()
    apart = np.linalg.norm(np.diff(points.reshape(3, 20, 2).mean(axis=1), axis=0), axis=1).min()
    assert apart > 3 * within
    assert gallery.project_to_plane(np.eye(4), seed=0).shape == (4, 2)


def test_the_held_out_speakers_of_a_run_are_hung(
    sittings: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery.write(tmp_path, sittings, CPU)
    assert not list(tmp_path.iterdir())
    run_training(recipe_of('[[losses]]\nname = "info_nce"\n', steps="2"), sittings, tmp_path)
    for _ in range(2):
        gallery.write(tmp_path, sittings, CPU)
    assert imread(tmp_path / "embeddings.png").shape[:2] == (700, 800)
    (labels,) = tmp_path.rglob("metadata.tsv")
    header, *rows = labels.read_text(encoding="utf-8").splitlines()
    held_out = {sittings.clips[i].speaker for i in hold_out(sittings.clips, 0.35)[1]}
    assert header.split("\t") == ["speaker", "corpus"]
    assert {row.split("\t")[0] for row in rows} == held_out
    (vectors,) = tmp_path.rglob("tensors.tsv")
    assert np.loadtxt(vectors).shape == (len(rows), 32)
    assert capsys.readouterr().out == ""
