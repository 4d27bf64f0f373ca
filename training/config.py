"""A recipe: everything that decides what is learned, read from TOML; unknown keys are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from training.errors import ConfigError
from training.losses.settings import Loss, Temperature
from training.section import Count, Positive, Section

RECIPES = Path(__file__).parent / "recipes"

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Share = Annotated[float, Field(ge=0, lt=1)]
FilterOrder = Annotated[float, Field(ge=1, le=40)]
Burst = Annotated[float, Field(ge=1)]
CodecName = Literal["gsm", "mp3", "opus", "vorbis"]


class Sampling(Section):
    """`balance` 0 draws speakers alike, 1 in proportion to their clips or seconds of speech; each
    clip is cut `views_per_clip` times, each cut through a channel of its own; each of `speeds`
    makes a voice of its own; a batch takes one of `crop_s`; the labels of so many speakers are
    known. Clips are left out if the teacher's cosine with the others of their speaker is below
    `least_agreement`: they may be another person's."""

    speakers: Annotated[int, Field(ge=2)] = 32
    clips_per_speaker: Count = 2
    views_per_clip: Count = 1
    balance: Probability = 0.3
    balance_by: Literal["clips", "seconds"] = "clips"
    crop_s: tuple[Positive, ...] = Field(default=(1.5, 2.0, 3.0), min_length=1)
    speeds: tuple[Positive, ...] = Field(default=(1.0,), min_length=1)
    held_out_speakers: Annotated[float, Field(gt=0, lt=1)] = 0.08
    label_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    least_agreement: Annotated[float, Field(gt=-1, lt=1)] | None = None


class Augmentation(Section):
    """Probabilities are per clip; ranges are uniform draws. A share `clean` of the clips goes
    through no channel and only has its level set.

    A telephone's band edges fall by 6 dB an octave for each order, drawn log-uniformly.
    Of the rooms, a share `shoebox` are simulated boxes, the others Polack's statistical model. A
    burst counts packets of 20 ms. Masks hide features (SpecAugment), at most so wide each.
    """

    clean: Probability = 0.0
    noise: Probability = 0.5
    noise_snr_db_range: Range = (0.0, 20.0)
    babble: Probability = 0.2
    babble_snr_db_range: Range = (5.0, 20.0)
    babble_voices: Count = 4
    room: Probability = 0.4
    room_rt60_s_range: Range = (0.1, 0.7)
    room_direct_db_range: Range = (-3.0, 12.0)
    equaliser: Probability = 0.7
    equaliser_deviation_db: Positive = 4.0
    telephone: Probability = 0.4
    telephone_low_order_range: tuple[FilterOrder, FilterOrder] = (4.0, 4.0)
    telephone_high_order_range: tuple[FilterOrder, FilterOrder] = (12.0, 12.0)
    level_dbfs_range: Range = (-36.0, -16.0)
    shoebox: Probability = 0.0
    shoebox_rooms: Count = 256
    drift: Probability = 0.0
    drift_db: Positive = 8.0
    codec: Probability = 0.0
    codecs: tuple[CodecName, ...] = Field(default=("gsm", "mp3", "vorbis"), min_length=1)
    packet_loss: Probability = 0.0
    packet_loss_share_range: tuple[Share, Share] = (0.01, 0.15)
    packet_burst_range: tuple[Burst, Burst] = (1.0, 4.0)
    band_masks: Annotated[int, Field(ge=0)] = 0
    band_mask_mels: Count = 8
    stretch_masks: Annotated[int, Field(ge=0)] = 0
    stretch_mask_s: Positive = 0.1


class FrontEnd(Section):
    """`name` is this project's, or the toolkit's whose weights a run starts from; the band from
    `low_hz` to `high_hz` is of this project's alone."""

    name: Literal["log-mel", "wespeaker", "3d-speaker", "speechbrain"] = "log-mel"
    sample_rate_hz: Literal[8000, 16000] = 16000
    mels: Count = 80
    low_hz: Positive = 20.0
    high_hz: Positive = 7600.0

    @model_validator(mode="after")
    def _band_fits(self) -> FrontEnd:
        if not self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise ValueError(f"low_hz < high_hz <= {self.sample_rate_hz // 2} must hold")
        return self


class Ecapa(Section):
    """`layout` is this project's, or that of the published weights that a run starts from."""

    name: Literal["ecapa"]
    width: Annotated[int, Field(ge=8)] = 512
    groups: Annotated[int, Field(ge=2)] = 8
    stride: Annotated[int, Field(ge=1, le=4)] = 1
    embedding_dim: Count = 192
    layout: Literal["sayso", "wespeaker", "wespeaker-glob", "speechbrain"] = "sayso"

    @model_validator(mode="after")
    def _groups_divide(self) -> Ecapa:
        if self.width % self.groups:
            raise ValueError(f"width {self.width} is no multiple of groups {self.groups}")
        return self


class ResNet34(Section):
    """`width` is that of the first of four stages; a `stride` of 2 quarters the work."""

    name: Literal["resnet34"]
    width: Annotated[int, Field(ge=8)] = 32
    stride: Annotated[int, Field(ge=1, le=2)] = 1
    embedding_dim: Count = 192
    layout: Literal["sayso", "wespeaker"] = "sayso"


class CamPlusPlus(Section):
    """`head_width` is that of the convolutions over the spectrogram; each of `layers` dense layers
    adds `growth` channels to `width`; a `stride` of 2 halves the frames."""

    name: Literal["cam++"]
    head_width: Annotated[int, Field(ge=4)] = 32
    width: Annotated[int, Field(ge=8)] = 128
    growth: Annotated[int, Field(ge=4)] = 32
    layers: tuple[Count, Count, Count] = (12, 24, 16)
    stride: Annotated[int, Field(ge=1, le=2)] = 1
    embedding_dim: Count = 192
    layout: Literal["sayso", "3d-speaker"] = "sayso"


Encoder = Ecapa | ResNet34 | CamPlusPlus


class Supervised(Section):
    """`latent_memory` differences within voices are kept for voices with one clip; 0 is none."""

    name: Literal["supervised"] = "supervised"
    latent_memory: Annotated[int, Field(ge=0)] = 0


class SimClr(Section):
    """`crop_spread` 0 gives all views of a clip the same crop, 1 any; `head_width` 0 is no head."""

    name: Literal["simclr"]
    crop_spread: Probability = 1.0
    head_width: Annotated[int, Field(ge=0)] = 0


class MoCo(Section):
    name: Literal["moco"]
    crop_spread: Probability = 1.0
    queue: Count = 4096
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999
    temperature: Temperature = 0.07


class Cpc(Section):
    """A latent is a chunk of so many frames of 10 ms; those up to `ahead` latents on are told."""

    name: Literal["cpc"]
    ahead: Count = 3
    chunk_frames: Count = 20
    context_dim: Count = 256
    negatives: Literal["all", "utterances", "times"] = "all"


Framework = Annotated[Supervised | SimClr | MoCo | Cpc, Field(discriminator="name")]


class Schedule(Section):
    """Linear warm-up, then cosine decay to `final_learning_rate` at `steps`.

    After `patience` validations without improvement training stops; 0 is never.
    """

    steps: Count
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    learning_rate: Positive = 2e-3
    final_learning_rate: Annotated[float, Field(ge=0)] = 1e-5
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    gradient_norm: Positive = 5.0
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    validate_every: Count = 200
    patience: Annotated[int, Field(ge=0)] = 0
    compile: bool = False


class Recipe(Section):
    seed: int = 0
    sampling: Sampling = Sampling()
    augmentation: Augmentation = Augmentation()
    front_end: FrontEnd = FrontEnd()
    encoder: Encoder = Field(discriminator="name")
    framework: Framework = Supervised()
    losses: tuple[Loss, ...] = ()
    schedule: Schedule

    @property
    def distils(self) -> bool:
        """Whether a loss needs the targets of `sayso-train teach`."""
        return any(loss.takes_targets for loss in self.losses)

    @model_validator(mode="after")
    def _losses_differ(self) -> Recipe:
        names = [loss.name for loss in self.losses]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"loss {name} is listed twice")
        return self

    @model_validator(mode="after")
    def _framework_fits(self) -> Recipe:
        chosen, views = self.framework, self.sampling.clips_per_speaker
        if isinstance(chosen, MoCo | Cpc) and self.losses:
            raise ValueError(f"the framework {chosen.name} has its own loss: leave out losses")
        if isinstance(chosen, Supervised | SimClr) and not self.losses:
            raise ValueError(f"the framework {chosen.name} needs losses")
        if isinstance(chosen, SimClr) and views < 2:
            raise ValueError("simclr compares views of a clip: clips_per_speaker of 2 or more")
        if isinstance(chosen, MoCo) and views != 2:
            raise ValueError("moco compares two views of a clip: clips_per_speaker = 2")
        if isinstance(chosen, SimClr) and self.distils:
            raise ValueError("distillation goes with the framework supervised")
        if not isinstance(chosen, Supervised) and self.sampling.views_per_clip > 1:
            raise ValueError(f"{chosen.name} draws views, not clips: leave out views_per_clip")
        if not isinstance(chosen, Supervised) and self.sampling.label_share < 1:
            raise ValueError(f"{chosen.name} needs no labels: leave out sampling.label_share")
        return self

    @model_validator(mode="after")
    def _latent_memory_fits(self) -> Recipe:
        if isinstance(self.framework, Supervised) and self.framework.latent_memory:
            if self.sampling.clips_per_speaker < 2:
                raise ValueError("latent_memory needs clips_per_speaker of 2 or more")
            if self.distils:
                raise ValueError("there is no target for what latent_memory makes: do not distil")
        return self

    @model_validator(mode="after")
    def _crops_hold_chunks(self) -> Recipe:
        if isinstance(self.framework, Cpc):
            shortest_s = min(self.sampling.crop_s)
            chunks = int((shortest_s - 0.015) * 100) // self.framework.chunk_frames
            if chunks <= self.framework.ahead:
                raise ValueError(
                    f"a crop of {shortest_s} s has {chunks} chunks, cpc needs more than `ahead`"
                )
        return self


def parse(text: str) -> Recipe:
    """A recipe from TOML text; ConfigError names every key that is wrong."""
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}") from error
    except ValidationError as error:
        complaints = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError("; ".join(complaints)) from error


def load(recipe: str | Path) -> Recipe:
    """A recipe by path, or by the name of one in `training/recipes`."""
    path = Path(recipe)
    named = RECIPES / f"{recipe}.toml"
    if not path.is_file() and named.is_file():
        path = named
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(known.stem for known in RECIPES.glob("*.toml")))
        raise ConfigError(f"no recipe at {path}; the project has: {names}") from error
