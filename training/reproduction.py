"""What makes a run again: the command, and what its result depends on."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def code_version() -> str:
    """The project's version and the beginning of a SHA-256 over the sources of `training`."""
    sources = Path(__file__).parent
    total = hashlib.sha256()
    for path in sorted(sources.rglob("*.py")):
        total.update(path.relative_to(sources).as_posix().encode() + path.read_bytes())
    return f"{version('sayso')}+{total.hexdigest()[:12]}"


def line(
    arguments: Iterable[str], *, seed: int, data_digest: str, code: str, processes: int = 1
) -> str:
    """A shell line that makes a `run` again; what its result depends on is the comment."""
    program = ["sayso-train"]
    if processes > 1:
        program = ["torchrun", "--nproc-per-node", str(processes), "-m", "training"]
    command = shlex.join((*program, "run", *arguments))
    return f"{command}  # seed {seed}, data {data_digest[:12]}, code {code}"
