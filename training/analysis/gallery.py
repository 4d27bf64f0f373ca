"""Where an encoder puts speakers that it never heard: a t-SNE picture, TensorBoard's projector."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.manifold import TSNE
from torch.utils.tensorboard import SummaryWriter

from training.analysis import embedding
from training.data.library import Clip, Library, clips_by_speaker, hold_out
from training.runs import checkpoint, pictures
from training.runs.checkpoint import Checkpoint

PICTURE = "embeddings.png"
PERPLEXITY = 30.0
SPEAKERS, CLIPS = 100, 8


@dataclass(frozen=True, slots=True)
class Gallery:
    """Clips and their embeddings (clips, dim)."""

    clips: tuple[Clip, ...]
    embeddings: npt.NDArray[np.float64]

    @classmethod
    def measure(
        cls,
        state: Checkpoint,
        library: Library,
        device: torch.device,
        *,
        speakers: int = SPEAKERS,
        clips: int = CLIPS,
    ) -> Gallery:
        """Embed at most so many speakers, and clips of each, by the checkpoint's encoder."""
        subset = sample(library, speakers=speakers, clips=clips)
        rate_hz = state.recipe.front_end.sample_rate_hz
        module = embedding.for_validation(state)
        rows = embedding.embed_clips(module, subset.audio, sample_rate_hz=rate_hz, device=device)
        return cls(subset.clips, rows)

    def draw(self, path: Path, *, seed: int) -> None:
        """Write a PNG: colors are speakers, markers are corpora. Near points are alike; large
        distances mean little."""
        names = [clip.speaker for clip in self.clips]
        corpora = [clip.corpus for clip in self.clips]
        points = project_to_plane(self.embeddings, seed=seed)
        pictures.draw_speakers(points, names, corpora).savefig(path, dpi=100)

    def project(self, folder: Path, step: int) -> None:
        """Write points for TensorBoard's projector, with speaker and corpus of each."""
        rows = torch.from_numpy(self.embeddings).float()
        labels = [[clip.speaker, clip.corpus] for clip in self.clips]
        # told on stdout, where a command's result belongs: that an earlier one is overwritten
        with SummaryWriter(folder) as writer, redirect_stdout(sys.stderr):
            writer.add_embedding(
                rows, labels, global_step=step, metadata_header=["speaker", "corpus"]
            )


def write(run: Path, library: Library, device: torch.device) -> None:
    """Draw the run's held-out speakers by its best checkpoint into its folder; does nothing if the
    run was stopped before it had one."""
    best = run / checkpoint.BEST
    if not best.exists():
        return
    state = checkpoint.load(best)
    _, held_out = hold_out(library.clips, state.recipe.sampling.held_out_speakers)
    gallery = Gallery.measure(state, library.of(held_out), device)
    gallery.draw(run / PICTURE, seed=state.recipe.seed)
    gallery.project(run, state.progress.step)


def sample(library: Library, *, speakers: int, clips: int) -> Library:
    """Choose speakers from the corpora in turn, so that a large corpus does not crowd out a small
    one."""
    groups = clips_by_speaker(library.clips)
    seen: Counter[str] = Counter()
    ranked = []
    for name, group in groups.items():
        corpus = library.clips[group[0]].corpus
        ranked.append((seen[corpus], name))
        seen[corpus] += 1
    return library.of(
        index for _, name in sorted(ranked)[:speakers] for index in groups[name][:clips]
    )


def project_to_plane(embeddings: npt.NDArray[np.float64], *, seed: int) -> npt.NDArray[np.float64]:
    """(clips, dim) to (clips, 2) by t-SNE on cosine distances: van der Maaten and Hinton 2008.

    The perplexity is 30, or a third of the clips if there are fewer than 90.
    """
    perplexity = min(PERPLEXITY, len(embeddings) / 3)
    projection = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=seed)
    points: npt.NDArray[np.float64] = projection.fit_transform(embeddings)
    return points
