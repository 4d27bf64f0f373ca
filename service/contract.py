"""The contract: a model file's description of itself, on which every part of Sayso relies.

It is one JSON document under `METADATA_KEY` in the ONNX metadata. Exporters write it; the server
does not start with one that it cannot read. Imports only the standard library.

    ModelContract              id, sample rate, window and hop
    ├── Contract               ... of a speaker model: a document without `kind`
    └── CountermeasureContract ... of a model that hears spoofing: `kind` is "countermeasure"
"""

import base64
import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from service.errors import ContractError

METADATA_KEY = "sayso.contract"
SCHEMA_VERSION = 1
_FLOAT32_BYTES = 4


class ModelKind(enum.StrEnum):
    """What a model hears; a document that names no kind is a speaker model's."""

    SPEAKER = "speaker"
    COUNTERMEASURE = "countermeasure"


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
class ModelContract:
    """What the contracts of all kinds of model say; lengths are samples at `sample_rate` hertz."""

    kind: ClassVar[ModelKind]

    model_id: str
    sample_rate: int
    window_samples: int
    hop_samples: int

    def __post_init__(self) -> None:
        _require(bool(self.model_id), "model_id", "is empty")
        for name in ("sample_rate", "window_samples", "hop_samples"):
            _require(getattr(self, name) > 0, name, "must be positive")
        _require(self.hop_samples <= self.window_samples, "hop_samples", "exceeds window_samples")

    @property
    def window_s(self) -> float:
        return self.window_samples / self.sample_rate

    @property
    def hop_s(self) -> float:
        return self.hop_samples / self.sample_rate

    def to_metadata(self) -> dict[str, str]:
        """Return the ONNX metadata with this contract."""
        document = {"schema_version": SCHEMA_VERSION, **self._make_document()}
        return {METADATA_KEY: json.dumps(document, sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Read what `to_metadata` wrote; raises `ContractError` on anything else, the contract of
        another kind of model included."""
        document = _read_document(metadata)
        kind = document.pop("kind", ModelKind.SPEAKER)
        if kind != cls.kind:
            raise ContractError(
                f"the model file holds a {kind} model, and a {cls.kind} model is needed here; name "
                "another file"
            )
        try:
            return cls(**cls._parse_document(document))
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ContractError(f"the model's contract is malformed: {error}") from error

    def _make_document(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def _parse_document(cls, document: dict[str, Any]) -> dict[str, Any]:
        return document


@dataclass(frozen=True, slots=True)
class Contract(ModelContract):
    """What a speaker model expects and returns: `waveform (batch, samples)` to `embedding (batch,
    dimension)`.

    `short_windows` are lengths below `window_samples` that the graph also accepts. `provenance`
    says where the weights come from (data, licenses, recipe) and `evaluation` how they scored; both
    are for people, and the server does not interpret them.
    """

    kind: ClassVar[ModelKind] = ModelKind.SPEAKER

    min_speech_samples: int
    dimension: int
    short_windows: tuple[int, ...] = ()
    calibration: Calibration | None = None
    operating_point: OperatingPoint | None = None
    cohort: Cohort | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ModelContract.__post_init__(self)  # super() fails in a dataclass with slots
        for name in ("min_speech_samples", "dimension"):
            _require(getattr(self, name) > 0, name, "must be positive")
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
    def min_speech_s(self) -> float:
        return self.min_speech_samples / self.sample_rate

    def _make_document(self) -> dict[str, Any]:
        document = dataclasses.asdict(self)
        if self.cohort is not None:
            document["cohort"]["vectors"] = base64.b64encode(self.cohort.vectors).decode("ascii")
        return document

    @classmethod
    def _parse_document(cls, document: dict[str, Any]) -> dict[str, Any]:
        parts = dict(document)
        parts["short_windows"] = tuple(parts.get("short_windows", ()))
        if (calibration := parts.get("calibration")) is not None:
            points = tuple((float(rate), float(llr)) for rate, llr in calibration["false_match"])
            score = ScoreKind(calibration.get("score", ScoreKind.COSINE))
            parts["calibration"] = Calibration(
                **{**calibration, "false_match": points, "score": score}
            )
        if (point := parts.get("operating_point")) is not None:
            parts["operating_point"] = OperatingPoint(**point)
        if (cohort := parts.get("cohort")) is not None:
            vectors = base64.b64decode(cohort["vectors"], validate=True)
            parts["cohort"] = Cohort(**{**cohort, "vectors": vectors})
        return parts


@dataclass(frozen=True, slots=True)
class CountermeasureCalibration:
    """Maps a logit to the natural-log likelihood ratio of bona fide against spoofed speech:
    `llr = scale * logit + bias` (logistic regression; the scale is above 0)."""

    scale: float
    bias: float
    fitted_on: str

    def __post_init__(self) -> None:
        finite = math.isfinite(self.scale) and math.isfinite(self.bias)
        _require(finite, "calibration", "holds a non-finite number")
        _require(self.scale > 0, "calibration", "scale must be positive")

    def compute_llr(self, logit: float) -> float:
        """Compute the llr of bona fide speech from the graph's logit."""
        return self.scale * logit + self.bias


@dataclass(frozen=True, slots=True)
class CountermeasureOperatingPoint:
    """An llr below `threshold` is suspected; `false_alarm_rate` is the share of bona fide speech
    that was, on what `measured_on` names."""

    threshold: float
    false_alarm_rate: float
    measured_on: str

    def __post_init__(self) -> None:
        _require(math.isfinite(self.threshold), "operating_point", "threshold must be finite")
        within = 0 < self.false_alarm_rate < 1
        _require(within, "operating_point", "false_alarm_rate must be in (0, 1)")


@dataclass(frozen=True, slots=True)
class CountermeasureContract(ModelContract):
    """What a countermeasure expects and returns: `waveform (batch, window_samples)`, float32 at
    full scale 1, to the `logit` of bona fide speech, `(batch,)` or `(batch, 1)`.

    Speech shorter than a window is repeated to fill it. `attacks` are those that the operating
    point and `evaluation` were measured against, and none if nothing was measured. Without a
    calibration a logit is no llr, so there is no operating point either.
    """

    kind: ClassVar[ModelKind] = ModelKind.COUNTERMEASURE

    attacks: tuple[str, ...] = ()
    calibration: CountermeasureCalibration | None = None
    operating_point: CountermeasureOperatingPoint | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ModelContract.__post_init__(self)
        named = all(isinstance(attack, str) and attack for attack in self.attacks)
        _require(named, "attacks", "must be names")
        calibrated = self.calibration is not None or self.operating_point is None
        _require(calibrated, "operating_point", "needs a calibration, its threshold is an llr")

    def _make_document(self) -> dict[str, Any]:
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @classmethod
    def _parse_document(cls, document: dict[str, Any]) -> dict[str, Any]:
        parts = dict(document)
        attacks = parts.get("attacks", [])
        _require(isinstance(attacks, list), "attacks", "must be a list")
        parts["attacks"] = tuple(attacks)
        if (calibration := parts.get("calibration")) is not None:
            parts["calibration"] = CountermeasureCalibration(**calibration)
        if (point := parts.get("operating_point")) is not None:
            parts["operating_point"] = CountermeasureOperatingPoint(**point)
        return parts


def _read_document(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Read the JSON object of a contract of any kind in this schema version."""
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
    return dict(document)


def _require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise ContractError(f"the model's contract is malformed: {name} {problem}")
