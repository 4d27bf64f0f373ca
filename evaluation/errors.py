"""What can go wrong in an evaluation, told to the person who ran it.

EvaluationError             the input cannot be evaluated; the message says what to correct
└── ListError               ... a line of a list; the message begins `file:line:`
"""

from pathlib import Path


class EvaluationError(Exception):
    """An input that cannot be evaluated."""


class ListError(EvaluationError):
    """A line of a manifest, trial list, enrollment map or score file is wrong."""

    def __init__(self, file: Path, line: int, problem: str) -> None:
        super().__init__(f"{file}:{line}: {problem}")
