"""A back-end fitted on embeddings, put into the graph: one affine map and a new unit length.

model.onnx ─ train split ─> projection ─> graph with it ─ dev split, as served ─> better? ─> file

Mean subtraction, whitening and LDA are fitted on speakers of one split and judged on those of
another, both models running as the service runs them: the map is applied to every window, before
their mean.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from evaluation.degrade import channels
from evaluation.degrade.channels import CrossChannel
from evaluation.degrade.treatment import Treatment
from evaluation.errors import EvaluationError
from evaluation.experiments.request import Request
from evaluation.metrics import comparison
from evaluation.metrics.comparison import Difference
from evaluation.scoring import backends, embeddings, scores
from evaluation.scoring.backends import Projection
from evaluation.scoring.cache import Cache
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest, sampling
from evaluation.trials.manifest import Clip, shared_speaker, speaker_numbers
from evaluation.trials.trials import Trials, make_pairs
from exporters import model_file
from exporters.errors import ExportError
from exporters.graph import OUTPUT, require_valid
from service.contract import Contract

AFFINE = "backend/"
Vectors = NDArray[np.float32]
Speakers = NDArray[np.integer]
Fit = Callable[[Vectors, Speakers, int], Projection]


class Kind(StrEnum):
    """Which projection to fit."""

    MEAN = "mean"
    WHITENING = "whitening"
    LDA = "lda"


def _fit_mean(vectors: Vectors, _: Speakers, _kept: int) -> Projection:
    return backends.fit_mean_subtraction(vectors)


def _fit_whitening(vectors: Vectors, _: Speakers, _kept: int) -> Projection:
    return backends.fit_whitening(vectors)


FITS: Mapping[Kind, Fit] = {
    Kind.MEAN: _fit_mean,
    Kind.WHITENING: _fit_whitening,
    Kind.LDA: backends.fit_lda,
}


@dataclass(frozen=True, slots=True)
class Fitting:
    """What to fit on: `clips` of `split`, evenly over its speakers; LDA keeps `dimension`."""

    kind: Kind
    split: str = "train"
    clips: int = 2000
    dimension: int = 100


@dataclass(frozen=True, slots=True)
class Judged:
    """EER without and with the back-end on the same trials, as recorded or cross-channel."""

    trials: str
    difference: Difference

    def __str__(self) -> str:
        eer, low, high = self.difference, *dataclasses.astuple(self.difference.interval)
        return (
            f"{self.trials}: EER {eer.first:.2%} without, {eer.second:.2%} with it, "
            f"difference {100 * low:+.2f} to {100 * high:+.2f} points"
        )


def helps(judgments: Sequence[Judged]) -> bool:
    """Say whether the back-end is shown to be better on some trials and worse on none."""
    verdicts = {judgment.difference.verdict for judgment in judgments}
    return "B is better" in verdicts and "A is better" not in verdicts


async def publish(
    request: Request, fitting: Fitting, output: Path, *, clips: int, force: bool = False
) -> tuple[Contract, list[Judged]]:
    """Write `request.model` with a back-end to `output` if that helps, or by `force`.

    Judged on the pairs of `clips` clips of the request's split; `request.cross_channel` fits on
    channel-simulated speech too, and judges each side through a channel of its own too. The model
    id is a new one, and calibration, cohort and evaluation are dropped: they no longer hold.
    Raises `ExportError` when it does not help.
    """
    model_file.require_writable(output)
    graph, contract = model_file.read(request.model)
    chosen, others = _choose_clips(request, fitting, clips)
    trials = make_pairs(chosen, limit=request.max_trials, seed=request.seed)
    with Cache.open(request.cache) as cache, tempfile.TemporaryDirectory() as folder:
        projection = await fit(request, fitting, others, cache)
        whole = append(graph, projection)
        renamed = _rename(contract, whole, fitting, others, request.cross_channel)
        candidate = Path(folder) / "model.onnx"
        model_file.write(candidate, whole, renamed)
        judgments = await _judge(request, candidate, trials, cache)
    if not (helps(judgments) or force):
        differences = "; ".join(map(str, judgments))
        raise ExportError(f"{fitting.kind} does not help: {differences}; nothing was written")
    evidence = {"backend": {**renamed.provenance["backend"], "judged": [str(j) for j in judgments]}}
    contract = dataclasses.replace(renamed, provenance={**renamed.provenance, **evidence})
    model_file.write(output, whole, contract)
    return contract, judgments


async def fit(
    request: Request, fitting: Fitting, clips: Sequence[Clip], cache: Cache
) -> Projection:
    """Fit the projection on `clips`, as recorded and, if asked, each through a channel too."""
    treatments: list[Treatment | None] = [None]
    if request.cross_channel:
        treatments.append(CrossChannel(request.seed, "fit", channels.ANY))
    async with SaysoModel.open(request.model, device=request.device) as model:
        embedded = [
            await embeddings.embed(model, clips, cache, treatment=treatment, label="fit")
            for treatment in treatments
        ]
    owner = speaker_numbers(clips)
    vectors = np.concatenate([voices.vectors[voices.acquired] for voices in embedded])
    speakers = np.concatenate([owner[voices.acquired] for voices in embedded])
    dimension = min(fitting.dimension, vectors.shape[1], len(np.unique(speakers)) - 1)
    return FITS[fitting.kind](vectors, speakers, dimension)


def append(model: onnx.ModelProto, projection: Projection) -> onnx.ModelProto:
    """Put `projection` between the embedding of `model` and the new output."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph, plain = whole.graph, f"{AFFINE}plain"
    if any(tensor.name.startswith(AFFINE) for tensor in graph.initializer):
        raise ExportError("the model has a back-end already; start from the model without")
    for node in graph.node:
        node.input[:] = [plain if name == OUTPUT else name for name in node.input]
        node.output[:] = [plain if name == OUTPUT else name for name in node.output]
    weights = {"matrix": projection.matrix, "bias": -projection.mean @ projection.matrix}
    for name, values in weights.items():
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), f"{AFFINE}{name}")
        graph.initializer.append(tensor)
    inputs = [plain, f"{AFFINE}matrix", f"{AFFINE}bias"]
    graph.node.extend(
        [
            onnx.helper.make_node("Gemm", inputs, [f"{AFFINE}mapped"], f"{AFFINE}Gemm"),
            onnx.helper.make_node(
                "LpNormalization", [f"{AFFINE}mapped"], [OUTPUT], f"{AFFINE}unit", axis=1, p=2
            ),
        ]
    )
    [embedding] = graph.output
    embedding.type.tensor_type.shape.dim[1].dim_value = projection.matrix.shape[1]
    return require_valid(whole)


def _choose_clips(
    request: Request, fitting: Fitting, count: int
) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Choose the clips to judge on and those to fit on, of different speakers."""
    if request.manifest is None:
        raise EvaluationError("a back-end needs --manifest")
    judged, others = (
        sampling.sample_balanced(manifest.read(request.manifest, split), size, seed=request.seed)
        for split, size in ((request.split, count), (fitting.split, fitting.clips))
    )
    if shared := shared_speaker(judged, others):
        raise EvaluationError(
            f"split {fitting.split!r} shares speakers with {request.split!r}: {shared}"
        )
    return judged, others


async def _judge(request: Request, candidate: Path, trials: Trials, cache: Cache) -> list[Judged]:
    modes: dict[str, list[Treatment | None]] = {"as recorded": [None]}
    if request.cross_channel:
        modes["cross-channel"] = [
            CrossChannel(request.seed, side, channels.ANY) for side in ("enrol", "test")
        ]
    judged = []
    async with (
        SaysoModel.open(request.model, device=request.device) as without,
        SaysoModel.open(candidate, device=request.device) as with_it,
    ):
        for name, treatments in modes.items():
            sides = [
                await embeddings.embed_each(
                    [without, with_it], trials.clips, cache, treatment=treatment, label=name
                )
                for treatment in treatments
            ]
            plain, mapped = (
                scores.score(trials, one, other)
                for one, other in zip(sides[0], sides[-1], strict=True)
            )
            difference = comparison.compare(
                plain.measures.cosine,
                mapped.measures.cosine,
                plain.trials.target,
                plain.trials.sides(),
                replicates=max(request.replicates, 2),
                seed=request.seed,
            )["EER"]
            judged.append(Judged(name, difference))
    return judged


def _rename(
    contract: Contract,
    whole: onnx.ModelProto,
    fitting: Fitting,
    clips: Sequence[Clip],
    cross_channel: bool,
) -> Contract:
    dimension = whole.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return dataclasses.replace(
        contract,
        model_id=model_file.make_model_id(contract.model_id.rsplit("-", 1)[0], whole),
        dimension=dimension,
        calibration=None,
        operating_point=None,
        cohort=None,
        evaluation={},
        provenance={
            **contract.provenance,
            "backend": {
                "kind": str(fitting.kind),
                "from": contract.model_id,
                "fitted_on": f"{len(clips)} clips of {len({clip.speaker for clip in clips})} "
                f"speakers of split {fitting.split}",
                "cross_channel": cross_channel,
            },
        },
    )
