"""A part of a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Frozen; an unknown key is an error, and so is a range that falls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _ranges_rise(self) -> Section:
        for name, value in self:
            if isinstance(value, tuple) and name.endswith("_range") and value[0] > value[1]:
                raise ValueError(f"{name} runs from {value[0]} down to {value[1]}")
        return self
