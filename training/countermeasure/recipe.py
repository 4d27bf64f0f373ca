"""What decides how a countermeasure is trained, read from TOML; unknown keys are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from training.config import Augmentation, Schedule
from training.errors import ConfigError
from training.section import Count, Positive, Section

RECIPES = Path(__file__).parent / "recipes"


class Network(Section):
    """The 256 bins of frequency are in `bands` of neighbors; the first layer has `width` channels,
    the widest twice that."""

    bands: Literal[32, 64, 128, 256] = 128
    width: Annotated[int, Field(ge=4)] = 16
    embedding_dim: Count = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3


class CountermeasureRecipe(Section):
    """A batch is half bona fide, the other half drawn evenly from the attacks; windows shorter
    than `window_s` are repeated, as the server does. A share of the speakers is held out to
    validate on."""

    seed: int = 0
    sample_rate_hz: int = 16000
    window_s: Positive = 2.0
    batch: Annotated[int, Field(ge=4)] = 32
    held_out_speakers: Annotated[float, Field(gt=0, lt=1)] = 0.08
    augmentation: Augmentation = Augmentation()
    network: Network = Network()
    schedule: Schedule

    @property
    def window_samples(self) -> int:
        return round(self.window_s * self.sample_rate_hz)


def load(recipe: str | Path) -> CountermeasureRecipe:
    """A recipe by path, or by its name in this package; ConfigError names every wrong key."""
    path = Path(recipe)
    named = RECIPES / f"{recipe}.toml"
    if not path.is_file() and named.is_file():
        path = named
    try:
        return CountermeasureRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        complaints = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError("; ".join(complaints)) from error
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(known.stem for known in RECIPES.glob("*.toml")))
        raise ConfigError(f"no recipe at {path}; the project has: {names}") from error
