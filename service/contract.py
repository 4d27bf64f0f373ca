"""The contract: a model file's description of itself, on which every part of Sayso relies.

It is one JSON document under `METADATA_KEY` in the ONNX metadata. Exporters write it; the server
does not start with one that it cannot read. Imports only the standard library.
"""

import base64
import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from service.errors import ContractError

METADATA_KEY = "sayso.contract"
SCHEMA_VERSION = 1
_FLOAT32_BYTES = 4


class ScoreKind(enum.StrEnum):
    """The score of two embeddings that a calibration maps: their cosine, or the cosine normalized
    by adaptive S-norm with the contract's cohort (Matejka et al. 2017)."""

    COSINE = "cosine"
    AS_NORM = "as_norm"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Maps a score and its quality measures to a natural-log likelihood ratio.

    `llr = bias + sum(weights[term] * term)`, with the terms of `service.decisions.scoring.TERMS`
    (logistic regression on development trials, Brümmer and du Preez 2006); "cosine" in the name of
    a term means the `score` that it was fitted on. `false_match` holds measured
    `(rate, llr threshold)` points, by falling rate, from non-target trials that the regression did
    not see.

    A caller chooses how long and in how much noise to speak, so a calibration may lower the llr for
    poor quality but must never raise it; `rewards_poor_quality` names the terms that would.
    """

    bias: float
    weights: Mapping[str, float]
    false_match: tuple[tuple[float, float], ...]
    fitted_on: str
    score: ScoreKind = ScoreKind.COSINE

    def __post_init__(self) -> None:
        numbers = [self.bias, *self.weights.values(), *(x for p in self.false_match for x in p)]
        _require(all(math.isfinite(x) for x in numbers), "calibration", "holds a non-finite number")
        rates = [rate for rate, _ in self.false_match]
        _require(rates == sorted(rates, reverse=True), "calibration", "rates must fall")
        _require(all(0 < rate < 1 for rate in rates), "calibration", "rates must be in (0, 1)")

    @property
    def rewards_poor_quality(self) -> tuple[str, ...]:
        """The terms that raise the llr as the test audio gets noisier or shorter."""
        noise = ("snr",) if self.weights.get("snr", 0.0) < 0 else ()
        max_score = math.inf if self.score is ScoreKind.AS_NORM else 1.0  # in magnitude
        change = self.weights.get("cosine_log_test_speech", 0.0)
        least = self.weights.get("log_test_speech", 0.0)
        least -= max_score * abs(change) if change else 0.0
        return (*noise, "log_test_speech") if least < 0 else noise

    def require_fair_quality(self) -> None:
        """Raise `ContractError` if poor quality would raise an llr."""
        _require(
            not self.rewards_poor_quality,
            "calibration",
            f"accepts more easily who is heard worse ({', '.join(self.rewards_poor_quality)}); fit"
            " it again with this version's `sayso-export calibrate`",
        )


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The false-match rate of the default threshold, for requests that choose none."""

    target_false_match_rate: float

    def __post_init__(self) -> None:
        _require(0 < self.target_false_match_rate < 1, "operating_point", "must be in (0, 1)")


@dataclass(frozen=True, slots=True)
class Cohort:
    """Embeddings of other speakers for adaptive score normalization (Matejka et al. 2017).

    `vectors` is little-endian float32, `(count, dimension)`, L2-normalized.
    """

    vectors: bytes
    count: int
    top_n: int
    source: str

    def __post_init__(self) -> None:
        _require(0 < self.top_n <= self.count, "cohort", "top_n must be in 1..count")


@dataclass(frozen=True, slots=True)
class Contract:
    """What a model expects and returns; lengths are samples at `sample_rate` hertz.

    `short_windows` are lengths below `window_samples` that the graph also accepts. `provenance`
    says where the weights come from (data, licenses, recipe) and `evaluation` how they scored; both
    are for people, and the server does not interpret them.
    """

    model_id: str
    sample_rate: int
    window_samples: int
    hop_samples: int
    min_speech_samples: int
    dimension: int
    short_windows: tuple[int, ...] = ()
    calibration: Calibration | None = None
    operating_point: OperatingPoint | None = None
    cohort: Cohort | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(bool(self.model_id), "model_id", "is empty")
        lengths = ("sample_rate", "window_samples", "hop_samples", "min_speech_samples")
        for name in (*lengths, "dimension"):
            _require(getattr(self, name) > 0, name, "must be positive")
        _require(self.hop_samples <= self.window_samples, "hop_samples", "exceeds window_samples")
        for short in self.short_windows:
            _require(0 < short < self.window_samples, "short_windows", "exceed window_samples")
        if self.cohort is not None:
            size = self.cohort.count * self.dimension * _FLOAT32_BYTES
            _require(len(self.cohort.vectors) == size, "cohort", f"vectors must be {size} bytes")
        if self.calibration is not None and self.calibration.score is ScoreKind.AS_NORM:
            deviates = self.cohort is not None and self.cohort.top_n >= 2
            _require(
                deviates, "cohort", "must be there with a top_n of 2 or more, as_norm needs it"
            )

    @property
    def window_s(self) -> float:
        return self.window_samples / self.sample_rate

    @property
    def hop_s(self) -> float:
        return self.hop_samples / self.sample_rate

    @property
    def min_speech_s(self) -> float:
        return self.min_speech_samples / self.sample_rate

    def to_metadata(self) -> dict[str, str]:
        """Return the ONNX metadata with this contract."""
        document = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        if self.cohort is not None:
            document["cohort"]["vectors"] = base64.b64encode(self.cohort.vectors).decode("ascii")
        return {METADATA_KEY: json.dumps(document, sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Read what `to_metadata` wrote; raises `ContractError` on anything else."""
        if METADATA_KEY not in metadata:
            raise ContractError(
                "the model file carries no Sayso contract; make one with `sayso-export`"
            )
        try:
            document = json.loads(metadata[METADATA_KEY])
        except (ValueError, RecursionError) as error:
            raise ContractError(f"the model's contract is not JSON: {error}") from error
        _require(isinstance(document, dict), "document", "must be a JSON object")
        version = document.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise ContractError(
                f"the model's contract has schema version {version}, this server reads version "
                f"{SCHEMA_VERSION}; export the model again with a matching `sayso-export`"
            )
        try:
            return cls(**_parse_document(document))
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ContractError(f"the model's contract is malformed: {error}") from error


def _parse_document(document: dict[str, Any]) -> dict[str, Any]:
    parts = dict(document)
    parts["short_windows"] = tuple(parts.get("short_windows", ()))
    if (calibration := parts.get("calibration")) is not None:
        points = tuple((float(rate), float(llr)) for rate, llr in calibration["false_match"])
        kind = ScoreKind(calibration.get("score", ScoreKind.COSINE))
        parts["calibration"] = Calibration(**{**calibration, "false_match": points, "score": kind})
    if (point := parts.get("operating_point")) is not None:
        parts["operating_point"] = OperatingPoint(**point)
    if (cohort := parts.get("cohort")) is not None:
        vectors = base64.b64decode(cohort["vectors"], validate=True)
        parts["cohort"] = Cohort(**{**cohort, "vectors": vectors})
    return parts


def _require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise ContractError(f"the model's contract is malformed: {name} {problem}")
