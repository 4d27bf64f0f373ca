"""What makes a run again: the command, and what its result depends on."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from training.data.library import Pcm
from training.data.teacher import Targets

SHOWN = 12


@cache
def hash_code() -> str:
    """The project's version and the beginning of a SHA-256 over the sources of `training`."""
    sources = Path(__file__).parents[1]
    total = hashlib.sha256()
    for path in sorted(sources.rglob("*.py")):
        total.update(path.relative_to(sources).as_posix().encode() + path.read_bytes())
    return f"{version('sayso')}+{total.hexdigest()[:SHOWN]}"


def list_conditions(
    *, noises: Sequence[Pcm], targets: Targets | None, device: torch.device, processes: int
) -> dict[str, str]:
    """Everything beside recipe and data that decides a run's bits, as its command line names it."""
    return {
        "code": hash_code(),
        "noise": _noise_digest(noises),
        "targets": "none" if targets is None else targets.digest()[:SHOWN],
        "processes": str(processes),
        "threads": str(torch.get_num_threads()),
        "device": _device(device),
        "torch": torch.__version__,
    }


def _noise_digest(noises: Sequence[Pcm]) -> str:
    if not noises:
        return "none"
    total = hashlib.sha256()
    for noise in noises:
        total.update(f"{noise.size}\n".encode() + noise.tobytes())
    return total.hexdigest()[:SHOWN]


def _device(device: torch.device) -> str:
    """The processor or GPU: others add in another order."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


def find_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The conditions that differ from those recorded before the run was stopped, if any were."""
    return [name for name, value in now.items() if before.get(name, value) != value]


def make_command(arguments: Iterable[str], *, processes: int) -> str:
    """The command line of a `run` with these arguments."""
    program = ["sayso-train"]
    if processes > 1:
        program = ["torchrun", "--nproc-per-node", str(processes), "-m", "training"]
    return shlex.join((*program, "run", *arguments))


def describe_command(
    arguments: Iterable[str],
    *,
    seed: int,
    data_digest: str,
    conditions: Mapping[str, str],
    changed: Sequence[str] = (),
) -> str:
    """The command that repeats a `run`, with its other conditions as a comment.

    Says that nothing repeats it if some of them changed while the run went on.
    """
    again = make_command(arguments, processes=int(conditions.get("processes", "1")))
    facts = {"seed": str(seed), "data": data_digest[:SHOWN], **conditions}
    depends = ", ".join(f"{name} {value}" for name, value in facts.items())
    if changed:
        return (
            f"no command makes this run again, for {', '.join(changed)} changed when it was "
            f"resumed; it ended as: {again}  # {depends}"
        )
    return f"to make this run again: {again}  # {depends}"
