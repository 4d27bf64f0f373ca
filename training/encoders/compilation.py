"""A compiled encoder, where it can be compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from training.encoders import SpeakerEncoder
from training.errors import first_line


def compile_encoder(
    encoder: SpeakerEncoder, device: torch.device, warn: Callable[[str], object]
) -> SpeakerEncoder:
    """The encoder as it is, after a warning, if the machine lacks what compiling takes.

    That is a C++ compiler with Python's headers, which only a first compilation tells.
    """
    try:
        torch.compile(_trial)(torch.ones(8, device=device))
    except Exception as error:  # the compiler's backends raise classes of their own
        reason = first_line(error)
        warn(f"cannot compile, so training takes longer; a C++ compiler may be missing: {reason}")
        return encoder
    return cast("SpeakerEncoder", torch.compile(encoder, dynamic=False))


def _trial(values: Tensor) -> Tensor:
    return values.sin() + 1
