"""A clip before and after each stage of a recipe's augmentation, written to a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from training import encoders
from training.analysis import hearing
from training.augment import Channel, Waveform, wrap
from training.config import Recipe
from training.data.library import Pcm, decode, load_clips, load_noises, read_manifest

VOICES = 40
MASKS = "masks"


@dataclass(frozen=True, slots=True)
class Material:
    """Noises and voices to mix into a clip; none without a manifest."""

    noises: Sequence[Pcm]
    voices: Sequence[Pcm]

    @classmethod
    def beside(cls, manifest: Path | None, noise: Path | None, rate_hz: int) -> Material:
        """Load the voices of a manifest, and the noises of `noise` or of the folder beside it."""
        if manifest is None:
            return cls(() if noise is None else load_noises(noise, rate_hz), ())
        folder = noise or manifest.parent / "noise"
        noises = load_noises(folder, rate_hz) if folder.is_dir() else ()
        return cls(noises, load_clips(read_manifest(manifest)[:VOICES], rate_hz).audio)


@dataclass(frozen=True, slots=True)
class Audition:
    """A clip (samples,) and the stages to send it through: `only` one, or all that are on."""

    recipe: Recipe
    channel: Channel
    speech: Waveform
    only: str | None
    seed: int

    @classmethod
    def open(
        cls, recipe: Recipe, material: Material, clip: Path, *, only: str | None, seed: int
    ) -> Audition:
        if only is not None:
            settings = hearing.with_stage(recipe.augmentation, only)
            recipe = recipe.model_copy(update={"augmentation": settings})
        rate_hz = recipe.front_end.sample_rate_hz
        channel = Channel(recipe.augmentation, rate_hz, material.noises, material.voices)
        pcm = decode(clip, rate_hz)
        return cls(recipe, channel, wrap(pcm, pcm.size, 0.0), only, seed)

    @property
    def count(self) -> int:
        """How many results all stages have: each alone, their chain, other speeds, masks."""
        speeds = sum(speed != 1.0 for speed in self.recipe.sampling.speeds)
        return len(self.channel.stages) + 1 + speeds + self._has_masks

    @property
    def _has_masks(self) -> bool:
        augmentation = self.recipe.augmentation
        return augmentation.band_masks > 0 or augmentation.stretch_masks > 0

    def write(self, folder: Path) -> Iterator[str]:
        """Write the clip and each result, and yield the name of each result once it is written."""
        folder.mkdir(parents=True, exist_ok=True)
        rate_hz = self.recipe.front_end.sample_rate_hz
        soundfile.write(folder / "before.wav", self.speech, rate_hz, "PCM_16")
        for results in (
            hearing.apply_stages(self.channel, self.speech, self.seed),
            hearing.change_speeds(self.speech, self.recipe.sampling.speeds, rate_hz),
        ):
            for name, after in results:
                if self.only is None or name.partition("-")[0] == self.only:
                    hearing.write_audio(folder, name, self.speech, after, rate_hz)
                    yield name
        if self._has_masks and self.only in (None, MASKS):
            encoder = encoders.build(self.recipe)
            hearing.write_spectrograms(
                folder, MASKS, *hearing.make_features(encoder, self.speech, self.seed)
            )
            yield MASKS
