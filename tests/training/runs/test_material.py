from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.small_runs import recipe_of
from training.data.library import Library, load_clips, read_manifest
from training.data.teacher import Targets
from training.errors import ConfigError, ManifestError
from training.ranks import Ranks
from training.runs.material import prepare


class Spectrum(nn.Module):
    """Embeds by spectrum, which any channel changes."""

    def forward(self, waveform: Tensor) -> Tensor:
        return functional.normalize(torch.fft.rfft(waveform).abs(), dim=1)


LOSSES = """
[[losses]]
name = "info_nce"
"""


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    return load_clips(read_manifest(corpus), 16000)


def learned_speakers(library: Library, share: float) -> set[str]:
    recipe = recipe_of(LOSSES, crop_s=f"[0.5]\nlabel_share = {share}")
    return {clip.speaker for clip in prepare(recipe, library, ()).learned.clips}


def test_fewer_labels_are_some_of_the_more(library: Library) -> None:
    some, more, all_of_them = (learned_speakers(library, share) for share in (0.3, 0.6, 1.0))
    assert 2 <= len(some) < len(more) < len(all_of_them)
    assert some < more < all_of_them
    recipe = recipe_of(LOSSES)
    held_out = {clip.speaker for clip in library.clips} - all_of_them
    assert not held_out & {clip.speaker for clip in prepare(recipe, library, ()).learned.clips}


def test_too_few_labels_are_an_error(library: Library) -> None:
    with pytest.raises(ManifestError, match="1% of the labels"):
        learned_speakers(library, 0.01)


def test_ranks_make_the_shares_of_one_batch(library: Library) -> None:
    recipe = recipe_of(LOSSES)
    whole = prepare(recipe, library, ()).batches[3]
    for rank in range(2):
        share = prepare(recipe, library, (), ranks=Ranks(rank, 2)).batches[3]
        rows = slice(8 * rank, 8 * rank + 8)
        assert share.waveforms.equal(whole.waveforms[rows])
        assert share.labels.equal(whole.labels[rows])
        assert share.clips.equal(whole.clips[rows])


def test_every_crossed_trial_is_through_a_channel_whatever_the_share_of_clean_clips(
    library: Library,
) -> None:
    recipe = recipe_of(LOSSES)
    clean = recipe.augmentation.model_copy(update={"clean": 1.0})
    material = prepare(recipe.model_copy(update={"augmentation": clean}), library, ())
    encoder, cpu = Spectrum(), torch.device("cpu")
    expected = prepare(recipe, library, ()).validation.measure(encoder, cpu)
    assert expected.crossed != expected.recorded
    assert material.validation.measure(encoder, cpu) == expected


def test_a_batch_that_does_not_divide_is_an_error(library: Library) -> None:
    batches = prepare(recipe_of(LOSSES), library, (), ranks=Ranks(0, 3)).batches
    with pytest.raises(ConfigError, match="does not divide among 3 processes"):
        batches[0]


def test_clips_unlike_the_others_of_their_speaker_are_left_out(library: Library) -> None:
    speakers = sorted({clip.speaker for clip in library.clips})
    heard = np.eye(len(speakers), dtype=np.float32)[
        [speakers.index(clip.speaker) for clip in library.clips]
    ]
    recipe = recipe_of(LOSSES, crop_s="[0.5]\nleast_agreement = 0.3")
    learned = prepare(recipe_of(LOSSES), library, ()).learned.clips
    odd = next(i for i, clip in enumerate(library.clips) if clip == learned[0])
    heard[odd] = np.roll(heard[odd], 1)
    targets = Targets(heard[:, None], (1.0,), library.digest(), "t.onnx")
    assert prepare(recipe, library, (), targets).learned.clips == learned[1:]
    with pytest.raises(ConfigError, match="least_agreement needs the targets"):
        prepare(recipe, library, ())


def test_a_speakers_chance_can_follow_the_seconds_of_speech(library: Library) -> None:
    first = prepare(recipe_of(LOSSES), library, ()).learned.clips[0].speaker
    audio = tuple(
        np.tile(pcm, 200) if clip.speaker == first else pcm
        for clip, pcm in zip(library.clips, library.audio, strict=True)
    )
    long = Library(library.clips, audio)
    drawn = {}
    for by in ("clips", "seconds"):
        crop_s = f'[0.5]\nbalance = 1.0\nbalance_by = "{by}"'
        prepared = prepare(recipe_of(LOSSES, speakers="2", crop_s=crop_s), long, ())
        drawn[by] = sum(0 in prepared.batches[step].labels.tolist() for step in range(20))
    assert drawn["clips"] < 18
    assert drawn["seconds"] >= 19
