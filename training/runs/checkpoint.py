"""What a run needs to go on, and what the exporter needs to go out; plain tensors and JSON."""

from __future__ import annotations

import json
import math
import os
import pickle
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training import encoders
from training.config import Recipe
from training.data.library import Library
from training.encoders import SpeakerEncoder, names
from training.errors import CheckpointError
from training.runs import reproduction

VERSION = 3
LAST, BEST = "last.pt", "best.pt"
UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)

State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is after `step` steps; `best` is the lowest mean validation EER so far.

    `teacher` is the model file that targets came from, by name and digest; `waited` counts the
    validations since the best one; `conditions` are those of the latest process, and `changed`
    names those that differed in an earlier one.
    """

    step: int
    best: float
    data_digest: str
    train_speakers: int
    train_clips: int
    teacher: str | None = None
    waited: int = 0
    code: str = ""
    conditions: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)

    @classmethod
    def at_start(
        cls,
        library: Library,
        learned: Library,
        conditions: dict[str, str],
        teacher: str | None = None,
    ) -> Progress:
        speakers = {clip.speaker for clip in learned.clips}
        return cls(
            step=0,
            best=math.inf,
            data_digest=library.digest(),
            train_speakers=len(speakers),
            train_clips=len(learned.clips),
            teacher=teacher,
            code=conditions["code"],
            conditions=conditions,
        )

    def resume(self, conditions: dict[str, str]) -> Progress:
        """The progress of the run under these conditions, with a note of what changed."""
        before = self.conditions or {"code": self.code}
        changed = {*self.changed, *reproduction.find_changes(before, conditions)}
        return replace(
            self, code=conditions["code"], conditions=conditions, changed=sorted(changed)
        )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`average` is the moving average of `encoder` over steps, the weights to export."""

    recipe: Recipe
    progress: Progress
    encoder: dict[str, Tensor]
    average: dict[str, Tensor]
    framework: dict[str, Tensor]
    optimizer: State
    random: dict[str, Tensor]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a temporary file, flush it to disk, then replace: readers see the old file or all of
    the new.

    Raises CheckpointError if it cannot be written, for example on a full disk; the old file stays.
    """
    content = {
        "version": VERSION,
        "recipe": checkpoint.recipe.model_dump_json(),
        "progress": json.dumps(asdict(checkpoint.progress)),
        "encoder": checkpoint.encoder,
        "average": checkpoint.average,
        "framework": checkpoint.framework,
        "optimiser": checkpoint.optimizer,
        "random": checkpoint.random,
    }
    beside = path.with_name(f".{path.name}.partial")
    try:
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer has errors of its own
        beside.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write {path}: {error}; make room and go on with --resume"
        ) from error


def is_ours(content: object) -> bool:
    """Whether a file's content is a checkpoint of this project, of any version."""
    return isinstance(content, dict) and {"version", "recipe", "progress"} <= content.keys()


def load(path: Path) -> Checkpoint:
    """Read on the CPU without running code from the file; CheckpointError if it is not ours."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["version"] == 1:
            content |= {"version": 2, "framework": _framework_of_version_1(content["losses"])}
        if content["version"] == 2:
            content |= {"version": 3, **_weights_of_version_2(content)}
        if content["version"] != VERSION:
            raise CheckpointError(f"{path} has version {content['version']}, not {VERSION}")
        return Checkpoint(
            recipe=Recipe.model_validate_json(content["recipe"]),
            progress=Progress(**json.loads(content["progress"])),
            encoder=content["encoder"],
            average=content["average"],
            framework=content["framework"],
            optimizer=content["optimiser"],
            random=content["random"],
        )
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is no readable checkpoint: {error}") from error


def _framework_of_version_1(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"objective.{name}": value for name, value in losses.items()}


def _weights_of_version_2(content: State) -> State:
    """Translate encoders, and the optimizer's moments, to the names of version 3."""
    encoder, average = (
        names.translate_below(content[k], "encoder.") for k in ("encoder", "average")
    )
    order = encoders.build(Recipe.model_validate_json(content["recipe"])).state_dict()
    optimizer = content["optimiser"]
    moments = optimizer["state"]
    if moments:
        moments = names.translate_optimizer(moments, content["encoder"], "encoder.", order)
    return {
        "encoder": encoder,
        "average": average,
        "framework": names.translate_below(content["framework"], "key_encoder.encoder."),
        "optimiser": {**optimizer, "state": moments},
    }


def load_previous(output: Path, recipe: Recipe, *, resume: bool) -> Checkpoint | None:
    """The last checkpoint in a run folder, None if it holds no run.

    Raises CheckpointError if there is one and `resume` is off, or one of another recipe.
    """
    last = output / LAST
    if not last.exists():
        return None
    if not resume:
        raise CheckpointError(f"{output} already holds a run; continue it with --resume")
    loaded = load(last)
    if loaded.recipe != recipe:
        raise CheckpointError(f"{last} was made by another recipe")
    return loaded


def load_encoder(path: Path) -> SpeakerEncoder:
    """The averaged encoder in evaluation mode, on the CPU, ready to embed or to export."""
    checkpoint = load(path)
    encoder = encoders.build(checkpoint.recipe)
    encoder.load_state_dict(checkpoint.average)
    return encoder.eval()


def read_random_state() -> dict[str, Tensor]:
    """The state of torch's generators; nothing else draws from global state."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
