"""What the user can put right, each with one clear line.

TrainingError
├── ConfigError        the recipe: an unknown key, a value out of range
├── ManifestError      the data: no such column, no clips, a single speaker
├── AudioError         a recording: missing, broken, empty, silent, no numbers
├── CheckpointError    the run: a file that is no checkpoint, or of another recipe or data
├── BatchError         no batch, or one the loss cannot learn from: too few views of a voice
├── GeneratorError     a spoofing program or package: not installed, or it made no speech
├── TeacherError       distillation: no such model, or targets of other data
└── DivergenceError    the loss is infinite or no number: lower the learning rate
"""

from __future__ import annotations

from pathlib import Path


def first_line(error: Exception) -> str:
    """An error in one line, whatever it says."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


class TrainingError(Exception):
    """Root of the errors that end a command with exit code 2."""


class ConfigError(TrainingError):
    pass


class ManifestError(TrainingError):
    pass


class AudioError(TrainingError):
    """`path` says which file; `reason` can be counted."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class CheckpointError(TrainingError):
    pass


class BatchError(TrainingError):
    pass


class GeneratorError(TrainingError):
    pass


class TeacherError(TrainingError):
    pass


class DivergenceError(TrainingError):
    pass
