"""A library made ready for a recipe: batches of the speakers learned from, trials of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training import config
from training.augment import Channel
from training.config import Recipe
from training.data.batches import Batches
from training.data.clip_sampler import ClipSampler
from training.data.library import (
    Clip,
    Library,
    Pcm,
    choose_labeled,
    clips_by_speaker,
    hold_out,
    require_speakers,
)
from training.data.sampler import VoiceSampler
from training.data.teacher import Targets
from training.errors import ConfigError
from training.ranks import ALONE, Ranks
from training.runs.validation import Validation, require_trials

VALIDATION_S = 3.0


@dataclass(frozen=True, slots=True)
class Material:
    """What a run trains on, and the held-out speakers that it validates on.

    `odd` counts the clips left out by `least_agreement`.
    """

    learned: Library
    held_out: int
    odd: int
    voices: int
    batches: Batches
    validation: Validation

    def __str__(self) -> str:
        clips = self.learned.clips
        parts = (
            f"{len(clips):,} clips of {len({clip.speaker for clip in clips}):,} speakers; "
            f"{self.held_out:,} speakers are held out"
        )
        return f"{parts}; {self.odd:,} clips unlike their speaker's others are left out"


def split_sides(recipe: Recipe, clips: Sequence[Clip]) -> tuple[list[int], list[int]]:
    """Indices to train on, of the speakers whose labels are known, and to validate on.

    Raises ManifestError if too few speakers are left, or if the held-out ones make no trials.
    """
    sampling = recipe.sampling
    chosen, held_out = hold_out(clips, sampling.held_out_speakers)
    require_trials([clips[i] for i in held_out])
    if sampling.label_share < 1:
        known = choose_labeled([clips[i] for i in chosen], sampling.label_share)
        chosen = [chosen[i] for i in known]
    return chosen, held_out


def prepare(
    recipe: Recipe,
    library: Library,
    noises: tuple[Pcm, ...],
    targets: Targets | None = None,
    ranks: Ranks = ALONE,
) -> Material:
    """Split a library into batches and validation.

    Raises ManifestError if too few speakers are left, ConfigError if a batch cannot be shared among
    the ranks.
    """
    sampling, rate_hz = recipe.sampling, recipe.front_end.sample_rate_hz
    chosen, kept_back = split_sides(recipe, library.clips)
    known = len(chosen)
    if sampling.least_agreement is not None:
        chosen = _choose_agreeing(library, chosen, targets, sampling.least_agreement)
    learned, held_out = library.of(chosen), library.of(kept_back)
    sampler = _sampler(recipe, learned)
    if targets is not None:
        targets = targets.for_run(library, sampling.speeds, chosen)
    channel = Channel(recipe.augmentation, rate_hz, noises, learned.audio)
    return Material(
        learned,
        len({clip.speaker for clip in held_out.clips}),
        known - len(chosen),
        sampler.voices,
        Batches(
            learned,
            sampler,
            channel,
            sample_rate_hz=rate_hz,
            seed=recipe.seed,
            targets=targets,
            ranks=ranks,
        ),
        Validation(held_out, channel.send, samples=round(VALIDATION_S * rate_hz), seed=recipe.seed),
    )


def _choose_agreeing(
    library: Library, chosen: list[int], targets: Targets | None, least: float
) -> list[int]:
    """Leave out the clips that the teacher finds unlike the others of their speaker."""
    if targets is None:
        raise ConfigError("least_agreement needs the targets of `sayso-train teach`")
    speakers = [library.clips[i].speaker for i in chosen]
    agreement = targets.for_run(library, (), chosen).agreement(speakers)
    agreeing = [i for i, cosine in zip(chosen, agreement, strict=True) if cosine >= least]
    require_speakers([library.clips[i] for i in agreeing], f"agreement of at least {least}")
    return agreeing


def _sampler(recipe: Recipe, learned: Library) -> VoiceSampler | ClipSampler:
    sampling = recipe.sampling
    if isinstance(recipe.framework, config.Supervised):
        by_speaker = list(clips_by_speaker(learned.clips).values())
        amounts = None
        if sampling.balance_by == "seconds":
            amounts = [sum(learned.audio[i].size for i in clips) for clips in by_speaker]
        return VoiceSampler(
            by_speaker,
            amounts=amounts,
            speakers=sampling.speakers,
            clips_per_speaker=sampling.clips_per_speaker,
            balance=sampling.balance,
            crop_s=sampling.crop_s,
            speeds=sampling.speeds,
            seed=recipe.seed,
            sessions=[clip.session for clip in learned.clips],
            views_per_clip=sampling.views_per_clip,
        )
    spread = 1.0 if isinstance(recipe.framework, config.Cpc) else recipe.framework.crop_spread
    return ClipSampler(
        len(learned.clips),
        drawn=sampling.speakers,
        views=sampling.clips_per_speaker,
        spread=spread,
        crop_s=sampling.crop_s,
        speeds=sampling.speeds,
        seed=recipe.seed,
    )
