"""The training loop of a countermeasure, top to bottom."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.metrics import Sweep, eer
from training.augment import Channel
from training.countermeasure.clips import SpoofClips
from training.countermeasure.network import LightCnn
from training.countermeasure.recipe import CountermeasureRecipe
from training.countermeasure.sampler import GENUINE, ClassSampler
from training.data.batches import Batch, Batches, stream
from training.data.library import Pcm, hold_out
from training.errors import CheckpointError, DivergenceError
from training.learner import follow
from training.runs.checkpoint import UNREADABLE
from training.train import compute_learning_rate, require_finite

VERSION = 1
LAST = "last.pt"
REPORT_EVERY = 20
VALIDATION_BATCHES = 12


class Reporter(Protocol):
    def on_step(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def on_validation(self, step: int, error_rate: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a countermeasure was trained on: attacks, and digest of the clips."""

    attacks: tuple[str, ...]
    clips: int
    speakers: int
    data_digest: str


def train(
    recipe: CountermeasureRecipe,
    clips: SpoofClips,
    noises: tuple[Pcm, ...],
    output: Path,
    *,
    reporter: Reporter,
    max_s: float = math.inf,
    resume: bool = False,
    start_from: Path | None = None,
    workers: int = 0,
) -> Path:
    """Train into the run folder and return the path of its checkpoint, `last.pt`.

    The EER that is reported is that of held-out speakers and of the attacks that are learned; no
    checkpoint is chosen by it. A run that is stopped after `max_s` seconds decays its learning
    rate as if it were to go on; `resume` goes on. A new run may `start_from` the averaged weights
    of another. Raises CheckpointError when there is a run of another recipe or data, or another
    network, DivergenceError when the loss is no longer finite.
    """
    schedule, path = recipe.schedule, output / LAST
    learned, held = map(clips.of, hold_out(clips.library.clips, recipe.held_out_speakers))
    torch.manual_seed(recipe.seed)
    network = LightCnn(recipe.network, recipe.sample_rate_hz)
    if start_from is not None:
        begin_from(network, start_from)
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=schedule.weight_decay)
    provenance = describe(clips)
    step = 0
    if resume:
        state = read(path)
        if (state["recipe"], state["data_digest"]) != (
            recipe.model_dump_json(),
            provenance.data_digest,
        ):
            raise CheckpointError(f"{path} was made by another recipe or from other data")
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    output.mkdir(parents=True, exist_ok=True)
    batches = make_batches(recipe, learned, noises, recipe.seed)
    validation = [
        make_batches(recipe, held, noises, recipe.seed + 1)[i] for i in range(VALIDATION_BATCHES)
    ]

    def save() -> None:
        write(path, recipe, provenance, step, network, average, optimizer.state_dict())

    started_s = time.monotonic()
    for batch in stream(batches, step, schedule.steps, workers):
        rate = compute_learning_rate(schedule, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        network.train()
        loss = compute_loss(network(batch.waveforms), batch.labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), schedule.gradient_norm)
        optimizer.step()
        follow(average, network, min(schedule.average_decay, (1 + step) / (10 + step)))
        step += 1
        if step % REPORT_EVERY == 0:
            require_finite(loss, step)
            reporter.on_step(step, {"loss": loss.item(), "learning_rate": rate})
        if step % schedule.validate_every == 0:
            reporter.on_validation(step, measure_eer(average, validation))
            save()
        if time.monotonic() - started_s > max_s:
            break
    if not all(value.isfinite().all() for value in average.state_dict().values()):
        raise DivergenceError("the weights are not finite; lower schedule.learning_rate")
    save()
    return path


def begin_from(network: LightCnn, other: Path) -> None:
    """Take over the averaged weights of another run; CheckpointError for another network."""
    try:
        network.load_state_dict(read(other)["average"])
    except RuntimeError as error:
        raise CheckpointError(f"{other} has another network than the recipe") from error


def compute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the logits of bona fide, (batch,); both classes weigh the same."""
    genuine = (labels == GENUINE).float()
    share = genuine.mean().clamp(1e-3, 1 - 1e-3)
    weights = 0.5 * (genuine / share + (1 - genuine) / (1 - share))
    return functional.binary_cross_entropy_with_logits(logits, genuine, weights)


def make_batches(
    recipe: CountermeasureRecipe, clips: SpoofClips, noises: tuple[Pcm, ...], seed: int
) -> Batches:
    rate_hz = recipe.sample_rate_hz
    sampler = ClassSampler(
        clips.attacks,
        [clip.corpus for clip in clips.library.clips],
        batch=recipe.batch,
        window_s=recipe.window_s,
        seed=seed,
    )
    channel = Channel(recipe.augmentation, rate_hz, noises, clips.library.audio, seed=seed)
    return Batches(clips.library, sampler, channel, sample_rate_hz=rate_hz, seed=seed)


@torch.no_grad()
def measure_eer(network: LightCnn, batches: Sequence[Batch]) -> float:
    """The EER of bona fide against all spoofed windows of the batches."""
    logits = torch.cat([network(batch.waveforms) for batch in batches]).numpy()
    genuine = torch.cat([batch.labels for batch in batches]).numpy() == GENUINE
    return float(eer(Sweep.of(logits[genuine], logits[~genuine])))


def describe(clips: SpoofClips) -> Provenance:
    return Provenance(
        attacks=tuple(sorted(set(clips.attacks))),
        clips=len(clips.attacks),
        speakers=len({clip.speaker for clip in clips.library.clips}),
        data_digest=clips.library.digest(),
    )


def write(
    path: Path,
    recipe: CountermeasureRecipe,
    provenance: Provenance,
    step: int,
    network: LightCnn,
    average: LightCnn,
    optimizer: Mapping[str, object],
) -> None:
    """Replace the checkpoint in one step; `average` holds the weights to export."""
    beside = path.with_name(f".{path.name}.partial")
    content = {
        "kind": "countermeasure",
        "version": VERSION,
        "recipe": recipe.model_dump_json(),
        "provenance": json.dumps(asdict(provenance)),
        "data_digest": provenance.data_digest,
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer,
    }
    try:
        torch.save(content, beside)
        beside.replace(path)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from the file; CheckpointError if it is none."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if (content["kind"], content["version"]) != ("countermeasure", VERSION):
            raise CheckpointError(f"{path} is a checkpoint of another kind or version")
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is no checkpoint of a countermeasure: {error}") from error
    return dict(content)


def load_network(path: Path) -> tuple[CountermeasureRecipe, LightCnn, Provenance]:
    """The recipe, the averaged network in evaluation mode and what it was trained on."""
    content = read(path)
    recipe = CountermeasureRecipe.model_validate_json(str(content["recipe"]))
    network = LightCnn(recipe.network, recipe.sample_rate_hz)
    network.load_state_dict(content["average"])
    told = json.loads(str(content["provenance"]))
    return recipe, network.eval(), Provenance(**(told | {"attacks": tuple(told["attacks"])}))
