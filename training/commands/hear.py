"""`sayso-train hear`: what augmentation does to a clip."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import soundfile
import typer

from training import config, encoders
from training.analysis import hearing
from training.augment import Channel, Waveform, wrap
from training.commands.terminal import one_line_errors, say
from training.config import Recipe
from training.data.library import Pcm, decode, load_clips, load_noises, read_manifest
from training.errors import ConfigError

VOICES = 40
MASKS = "masks"


@dataclass(frozen=True, slots=True)
class Material:
    """Noises and voices to mix into a clip; none without a manifest."""

    noises: Sequence[Pcm]
    voices: Sequence[Pcm]

    @classmethod
    def beside(cls, manifest: Path | None, noise: Path | None, rate_hz: int) -> Material:
        if manifest is None:
            return cls(() if noise is None else load_noises(noise, rate_hz), ())
        folder = noise or manifest.parent / "noise"
        noises = load_noises(folder, rate_hz) if folder.is_dir() else ()
        return cls(noises, load_clips(read_manifest(manifest)[:VOICES], rate_hz).audio)


def hear(
    clip: Annotated[Path, typer.Argument(help="The recording to change.")],
    recipe: Annotated[str, typer.Option(help="Whose [augmentation]; a file or a name.")],
    output: Annotated[Path, typer.Option(help="Folder for the WAV files and pictures.")],
    only: Annotated[
        str | None,
        typer.Option(help="One stage, as it is named in the recipe, also if it is off there."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws other rooms, noises, codecs.")] = 0,
    manifest: Annotated[
        Path | None, typer.Option(help="Voices for babble, and noise/ beside it.")
    ] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of noise recordings.")] = None,
) -> None:
    """Write a clip before and after each stage of a recipe, as audio and spectrogram."""
    with one_line_errors():
        chosen = config.load(recipe)
        if only is not None:
            settings = hearing.with_stage(chosen.augmentation, only)
            chosen = chosen.model_copy(update={"augmentation": settings})
        rate_hz = chosen.front_end.sample_rate_hz
        material = Material.beside(manifest, noise, rate_hz)
        channel = Channel(chosen.augmentation, rate_hz, material.noises, material.voices)
        speech = _speech(clip, rate_hz)
        output.mkdir(parents=True, exist_ok=True)
        soundfile.write(output / "before.wav", speech, rate_hz, "PCM_16")
        written = _write_stages(chosen, channel, speech, output, only, seed)
        if only in (None, MASKS):
            written += _write_masks(chosen, speech, output, seed)
        if not written:
            raise ConfigError(
                f"no stage {only!r} to be heard; noise and babble need recordings, --manifest"
            )
    say(", ".join(written))
    sys.stdout.write(f"{output}\n")


def _speech(clip: Path, rate_hz: int) -> Waveform:
    pcm = decode(clip, rate_hz)
    return wrap(pcm, pcm.size, 0.0)


def _write_stages(
    recipe: Recipe, channel: Channel, speech: Waveform, output: Path, only: str | None, seed: int
) -> list[str]:
    rate_hz = recipe.front_end.sample_rate_hz
    written = []
    for results in (
        hearing.stages(channel, speech, seed),
        hearing.voices(speech, recipe.sampling.speeds, rate_hz),
    ):
        for name, after in results:
            if only is None or name.partition("-")[0] == only:
                hearing.write_audio(output, name, speech, after, rate_hz)
                written.append(name)
    return written


def _write_masks(recipe: Recipe, speech: Waveform, output: Path, seed: int) -> list[str]:
    chosen = recipe.augmentation
    if not chosen.band_masks and not chosen.stretch_masks:
        return []
    hearing.write_spectrograms(
        output, MASKS, *hearing.features(encoders.build(recipe), speech, seed)
    )
    return [MASKS]
