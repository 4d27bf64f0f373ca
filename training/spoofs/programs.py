"""Runs the programs that synthesize and code speech."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from training.augment.waveform import Waveform
from training.errors import GeneratorError

TIMEOUT_S = 60


def require(program: str, package: str) -> None:
    """Raise GeneratorError if the program is not installed; `package` is Debian's."""
    if shutil.which(program) is None:
        raise GeneratorError(f"{program} is not installed: apt-get install {package}")


def run(command: Sequence[str], *, text: str | None = None) -> bytes:
    """Run a program on `text` and return its standard output; GeneratorError if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - programs of this package, no shell
            command,
            input=None if text is None else text.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise GeneratorError(f"{' '.join(command)} failed: {error}") from error
    return done.stdout


def read_audio(path: Path, rate_hz: int) -> Waveform:
    """Read what a program wrote, mono at `rate_hz`; GeneratorError if there is no speech in it."""
    try:
        speech, own_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise GeneratorError(f"{path} holds no audio: {error}") from error
    mono = speech.mean(axis=1)
    if not mono.size or not np.any(mono):
        raise GeneratorError(f"{path} is silent")
    return np.asarray(soxr.resample(mono, own_hz, rate_hz), np.float32)
