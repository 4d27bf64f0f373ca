"""A recipe: everything that decides what is learned, read from TOML; unknown keys are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Range = tuple[float, float]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _ranges_rise(self) -> Section:
        for name, value in self:
            if isinstance(value, tuple) and name.endswith("_range") and value[0] > value[1]:
                raise ValueError(f"{name} runs from {value[0]} down to {value[1]}")
        return self


class Sampling(Section):
    """`balance` 0 draws speakers alike, 1 in proportion to their clips; each of `speeds` makes
    a voice of its own; a batch takes one of `crop_s`."""

    speakers: Annotated[int, Field(ge=2)] = 32
    clips_per_speaker: Count = 2
    balance: Probability = 0.3
    crop_s: tuple[Positive, ...] = Field(default=(1.5, 2.0, 3.0), min_length=1)
    speeds: tuple[Positive, ...] = Field(default=(1.0,), min_length=1)
    held_out_speakers: Annotated[float, Field(gt=0, lt=1)] = 0.08


class Augmentation(Section):
    """Probabilities are per clip; ranges are uniform draws."""

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
    level_dbfs_range: Range = (-36.0, -16.0)


class FrontEnd(Section):
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
    name: Literal["ecapa"]
    width: Annotated[int, Field(ge=8)] = 512
    groups: Annotated[int, Field(ge=2)] = 8
    stride: Annotated[int, Field(ge=1, le=4)] = 1
    embedding_dim: Count = 192

    @model_validator(mode="after")
    def _groups_divide(self) -> Ecapa:
        if self.width % self.groups:
            raise ValueError(f"width {self.width} is no multiple of groups {self.groups}")
        return self


class TripletLoss(Section):
    name: Literal["triplet"]
    weight: Positive = 1.0
    margin: Positive = 0.3
    mining: Literal["hard", "semi_hard"] = "hard"


class InfoNceLoss(Section):
    name: Literal["info_nce"]
    weight: Positive = 1.0
    temperature: Positive = 0.07
    learned: bool = True


class AamSoftmaxLoss(Section):
    name: Literal["aam_softmax"]
    weight: Positive = 1.0
    scale: Positive = 30.0
    margin: Annotated[float, Field(ge=0, lt=1.5)] = 0.2
    margin_warmup_steps: Annotated[int, Field(ge=0)] = 0


Encoder = Ecapa
Loss = Annotated[TripletLoss | InfoNceLoss | AamSoftmaxLoss, Field(discriminator="name")]


class Schedule(Section):
    """Linear warm-up, then cosine decay to `final_learning_rate` at `steps`."""

    steps: Count
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    learning_rate: Positive = 2e-3
    final_learning_rate: Annotated[float, Field(ge=0)] = 1e-5
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    gradient_norm: Positive = 5.0
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    validate_every: Count = 200
    compile: bool = False


class Recipe(Section):
    seed: int = 0
    sampling: Sampling = Sampling()
    augmentation: Augmentation = Augmentation()
    front_end: FrontEnd = FrontEnd()
    encoder: Encoder
    losses: tuple[Loss, ...] = Field(min_length=1)
    schedule: Schedule

    @model_validator(mode="after")
    def _losses_differ(self) -> Recipe:
        names = [loss.name for loss in self.losses]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"loss {name} is listed twice")
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
