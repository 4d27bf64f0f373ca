"""Attack: what a credential can learn of a stored voice from the answers that it is given.

    python -m benchmarks.attack [--data ../shared/data/manifest.csv] [--probes 256] [--victims 4]

Writes benchmarks/results/attack.json. The attacker holds a key, other people's recordings and a
copy of the model, which is public, and never hears the victim:

    least squares  ask about recordings whose embeddings are known, solve for the stored voice,
                   equalise a stranger's recording towards it off line, ask with that
    hill climbing  equalise a stranger's recording step by step, keep what scores higher

Where an answer holds no score, its outcome under policies of the attacker's choice is searched by
bisection, which gives a score bit by bit if the policies are followed. The attack is made with the
roles `verify` and `analyze`, with `verify` alone, and with `verify` on a server without a lock.
"""

import argparse
import asyncio
import csv
import itertools
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray
from sayso.v1 import audio_pb2, decision_pb2, speaker_pb2, verification_pb2, watchlist_pb2
from sayso.v1 import speaker_pb2_grpc as speaker_grpc
from sayso.v1 import verification_pb2_grpc as verification_grpc
from sayso.v1 import watchlist_pb2_grpc as watchlist_grpc

from benchmarks.figures import Figure, below, figure, write
from service.audio import AudioFormat, decode
from service.contract import Contract
from service.embedder import Embedder
from service.identity import Role, key_file
from service.identity.keys import new_key
from service.scoring import Measures, log_likelihood_ratio, voice
from service.session import Session
from service.settings import SHIPPED_MODEL
from service.speech import VoiceActivity
from tests.sayso_server import SaysoServer

RATE = 16_000
ENROL_S, PROBE_S, CLIP_S = 12.0, 2.8, 4.0
CALLS = (24, 96, 192, 768)
"""The calls after which the cosine reached is told."""
GROUP = "everyone"
TENANT = "bank"
_LOWEST_LLR, _HIGHEST_LLR, _BITS = -40.0, 20.0, 6
_BANDS, _LOUDEST_DB = 40, 24.0
_POPULATION, _GENERATIONS, _CLIMB_CALLS = 16, 40, 400
_SEED = 14

Samples: TypeAlias = NDArray[np.float32]  # (n,)
Vector: TypeAlias = NDArray[np.float64]  # (dimension,)
Vectors: TypeAlias = NDArray[np.float64]  # (n, dimension)
Ask: TypeAlias = Callable[[Samples, float], "Answer"]
"""Asks about audio by a policy whose threshold is this log-likelihood ratio."""


# --- what the attacker has ---


class Copy:
    """The attacker's own copy of the model."""

    def __init__(self) -> None:
        self._session = Session.open(SHIPPED_MODEL, device="cpu", threads=1, max_batch=4)
        self._activity = VoiceActivity.open()

    @property
    def contract(self) -> Contract:
        return self._session.contract

    def embed(self, clips: Sequence[Samples]) -> Vectors:
        """One row for each clip, as the server embeds it; zeros for one without enough speech."""
        return asyncio.run(self._embed(clips))

    async def _embed(self, clips: Sequence[Samples]) -> Vectors:
        async with Embedder(
            self._session, self._activity, max_batch=4, queue_limit=1024
        ) as embedder:
            heard = [await embedder.embed(decoded(clip)) for clip in clips]
        nothing = np.zeros(self.contract.dimension, np.float32)
        rows = [nothing if one.embedding is None else one.embedding for one in heard]
        return np.stack(rows).astype(np.float64)

    def cosine(self, llr: float, enrol_speech_s: float, speech_s: float, snr_db: float) -> float:
        """The cosine behind a ratio: the model's calibration is linear in it."""
        calibration = self.contract.calibration
        assert calibration is not None
        at_zero, at_one = (
            log_likelihood_ratio(calibration, Measures(score, enrol_speech_s, speech_s, snr_db))
            for score in (0.0, 1.0)
        )
        return (llr - at_zero) / (at_one - at_zero)


def pcm(clip: Samples) -> bytes:
    return (np.clip(clip, -1, 1) * 32767).astype("<i2").tobytes()


def decoded(clip: Samples) -> Samples:
    """What the server decodes of it."""
    return np.frombuffer(pcm(clip), "<i2").astype(np.float32) / 32768


@dataclass(frozen=True, slots=True)
class Material:
    """`victims` are recordings to enrol, `strangers` one other voice for each victim, `probes`
    recordings of further voices."""

    victims: list[Samples]
    strangers: list[Samples]
    probes: list[Samples]


def material(manifest: Path, victims: int, probes: int) -> Material:
    recordings = _by_speaker(manifest)
    chance = np.random.default_rng(_SEED)
    speakers = [name for name in sorted(recordings) if _seconds(recordings[name]) >= ENROL_S + 4]
    chance.shuffle(speakers)
    chosen, others = speakers[: 2 * victims], sorted(set(recordings) - set(speakers[: 2 * victims]))
    cut = [_spoken(manifest, recordings[name], ENROL_S) for name in chosen]
    clips = [(name, path) for name in others for path, _ in recordings[name]]
    chance.shuffle(clips)
    taken = itertools.islice((_spoken(manifest, [(path, 0.0)], PROBE_S) for _, path in clips), None)
    long_enough = (clip for clip in taken if len(clip) >= 1.5 * RATE)
    return Material(
        cut[:victims],
        [clip[: round(CLIP_S * RATE)] for clip in cut[victims:]],
        list(itertools.islice(long_enough, probes)),
    )


def _by_speaker(manifest: Path) -> dict[str, list[tuple[str, float]]]:
    found = defaultdict[str, list[tuple[str, float]]](list)
    with manifest.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] == "dev":
                name = f"{row['corpus']}/{row['speaker']}"
                found[name].append((row["path"], float(row["seconds"])))
    return found


def _seconds(recordings: Sequence[tuple[str, float]]) -> float:
    return sum(seconds for _, seconds in recordings)


def _spoken(manifest: Path, recordings: Sequence[tuple[str, float]], most_s: float) -> Samples:
    """The recordings one after the other, up to `most_s` seconds."""
    parts: list[Samples] = []
    for path, _ in recordings:
        audio = (manifest.parent / path).read_bytes()
        parts.append(decode(audio, AudioFormat(), rate=RATE, max_s=600))
        if sum(map(len, parts)) >= most_s * RATE:
            break
    return np.concatenate(parts)[: round(most_s * RATE)]


# --- what the attacker sees ---


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores are None where the answer holds none; `level` is how good its words say it is."""

    accepted: bool
    cosine: float | None
    llr: float | None
    level: int
    speech_s: float
    snr_db: float


class Refused(Exception):
    """The server answers no more: the speaker is locked, or a budget is spent."""


@dataclass(slots=True)
class Oracle:
    """One victim of a server, asked with one key over one rpc; `calls` counts."""

    server: "Target"
    key: str
    rpc: str
    victim: str
    calls: int = 0
    refusal: str = ""

    def __call__(self, clip: Samples, llr: float) -> Answer:
        self.calls += 1
        try:
            return getattr(self, f"_{self.rpc}")(clip, llr)  # type: ignore[no-any-return]
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            self.refusal = error.details() or ""
            raise Refused(self.refusal) from error

    def _verify(self, clip: Samples, llr: float) -> Answer:
        request = verification_pb2.VerifyRequest(
            speaker_id=self.victim, config=LINEAR16, audio=pcm(clip), policy=reaching(llr)
        )
        made = self.server.voices.Verify(request, metadata=shown(self.key)).decision
        accepted = made.outcome == decision_pb2.OUTCOME_ACCEPTED
        scored = made.HasField("cosine")
        return Answer(
            accepted,
            made.cosine if scored else None,
            made.llr if scored else None,
            _level(made),
            made.quality.net_speech_s,
            made.quality.snr_db if made.quality.HasField("snr_db") else 20.0,
        )

    def _identify(self, clip: Samples, llr: float) -> Answer:
        """In the group of everybody: one call asks about each member."""
        request = verification_pb2.IdentifyRequest(
            group=GROUP, config=LINEAR16, audio=pcm(clip), policy=reaching(llr), max_candidates=100
        )
        made = self.server.voices.Identify(request, metadata=shown(self.key))
        decision = made.decision
        match = next((at for at in made.candidates if at.speaker_id == self.victim), None)
        scored = match is not None and _has_score(match)
        return Answer(
            decision.outcome == decision_pb2.OUTCOME_ACCEPTED and match is not None,
            match.cosine if match is not None and scored else None,
            match.llr if match is not None and scored else None,
            int(match is not None),
            decision.quality.net_speech_s,
            decision.quality.snr_db if decision.quality.HasField("snr_db") else 20.0,
        )


def _level(made: decision_pb2.Decision) -> int:
    accepted = made.outcome == decision_pb2.OUTCOME_ACCEPTED
    return 10 * accepted + int(getattr(made, "band", 0))


def _has_score(match: watchlist_pb2.GroupMatch) -> bool:
    return bool(match.cosine or match.llr)


LINEAR16 = audio_pb2.AudioConfig(
    encoding=audio_pb2.AUDIO_ENCODING_LINEAR16, sample_rate=RATE, channels=1
)


def reaching(llr: float) -> decision_pb2.DecisionPolicy:
    """A policy whose threshold is `llr`; the server's where it is infinite."""
    if math.isinf(llr):
        return decision_pb2.DecisionPolicy()
    costs = decision_pb2.CostModel(target_prior=0.5, miss_cost=1.0, false_accept_cost=math.exp(llr))
    return decision_pb2.DecisionPolicy(costs=costs)


def shown(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


# --- the server under attack ---


@dataclass(slots=True)
class Target:
    """A server with a key file, the victims enrolled and in one group."""

    address: str
    operator: str
    voices: Any = field(init=False)
    speakers: Any = field(init=False)
    groups: Any = field(init=False)

    def __post_init__(self) -> None:
        channel = grpc.insecure_channel(self.address)
        self.voices = verification_grpc.VerificationServiceStub(channel)
        self.speakers = speaker_grpc.SpeakerServiceStub(channel)
        self.groups = watchlist_grpc.WatchlistServiceStub(channel)

    def enrol(self, victims: Sequence[Samples]) -> list[str]:
        names = [f"victim-{number}" for number in range(len(victims))]
        for name, clip in zip(names, victims, strict=True):
            config = verification_pb2.EnrollConfig(speaker_id=name, audio=LINEAR16)
            audio, step = pcm(clip), 15_000
            messages = [
                verification_pb2.EnrollRequest(config=config),
                *(
                    verification_pb2.EnrollRequest(audio=audio[at : at + step])
                    for at in range(0, len(audio), step)
                ),
            ]
            *_, last = self.voices.Enroll(iter(messages), metadata=shown(self.operator))
            assert last.stored, last.explanation
        group = watchlist_pb2.Group(name=GROUP)
        self._ask(self.groups.CreateGroup, watchlist_pb2.CreateGroupRequest(group=group))
        self._ask(
            self.groups.AddMembers,
            watchlist_pb2.AddMembersRequest(group=GROUP, speaker_ids=names),
        )
        return names

    def template(self, name: str) -> tuple[Vector, float]:
        """The stored voice, and the seconds of speech behind it."""
        request = speaker_pb2.ExportSpeakerRequest(speaker_id=name)
        (stored,) = self._ask(self.speakers.ExportSpeaker, request).voiceprints
        vectors = np.array([each.values for each in stored.vectors], np.float32)
        speech_s = np.array([each.net_speech_s for each in stored.vectors], np.float32)
        return voice(vectors, speech_s).astype(np.float64), float(speech_s.sum())

    def unlock(self, name: str) -> None:
        request = speaker_pb2.UnlockSpeakerRequest(speaker_id=name)
        self._ask(self.speakers.UnlockSpeaker, request)

    def judged(self, name: str, clip: Samples) -> Answer:
        """What the server decides by its own policy, with every score; the lock is lifted first."""
        self.unlock(name)
        return Oracle(self, self.operator, "verify", name)(clip, math.inf)

    def _ask(self, method: Any, request: Any) -> Any:
        return method(request, metadata=shown(self.operator))


@contextmanager
def target(**settings: object) -> Iterator[tuple[Target, Callable[..., str]]]:
    """A server, and what makes a key for it."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.json"

        def create(*roles: str) -> str:
            granted = [role for role in Role if role.value in roles]
            key, entry = new_key(TENANT, granted, now=datetime.now(UTC), expires=None)
            key_file.change(keys, lambda grants: (grants.changed(entry), None))
            return key

        operator = create(*Role)
        create_first = {"keys": keys, **settings}
        attackers = {roles: create(*roles) for roles in (("verify",), ("verify", "analyze"))}
        with SaysoServer(store=f"sqlite:///{folder}/sayso.db", **create_first) as running:
            yield Target(running.address, operator), lambda *roles: attackers[roles]


# --- least squares ---


@dataclass(slots=True)
class Guess:
    """The stored voice as far as it is known: where a linear estimate from noisy cosines with known
    embeddings, and the mean and covariance of all voices, put it."""

    mean: Vector
    covariance: NDArray[np.float64]  # (dimension, dimension)
    rows: list[Vector] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, voices: Vectors) -> "Guess":
        mean = voices.mean(axis=0)
        ridge = 1e-4 * np.eye(len(mean))
        return cls(mean, np.cov(voices.T) + ridge)

    def add(self, row: Vector, cosine: float, error: float) -> None:
        self.rows.append(row)
        self.cosines.append(cosine)
        self.errors.append(error)

    @property
    def voice(self) -> Vector:
        if not self.rows:
            return self.mean / np.linalg.norm(self.mean)
        rows = np.stack(self.rows)
        gain = self.covariance @ rows.T
        seen = rows @ gain + np.diag(np.square(self.errors))
        found = self.mean + gain @ np.linalg.solve(seen, np.array(self.cosines) - rows @ self.mean)
        return np.asarray(found / np.linalg.norm(found))


def measure(
    ask: Ask, copy: Copy, clip: Samples, enrol_speech_s: float
) -> tuple[float, float] | None:
    """The cosine of a clip and its likely error; None where the answers tell nothing of it."""
    answer = ask(clip, _LOWEST_LLR)
    if answer.cosine is not None:
        return answer.cosine, 1e-6
    if not answer.accepted:
        return None
    low, high = _LOWEST_LLR, _HIGHEST_LLR
    for _ in range(_BITS):
        middle = (low + high) / 2
        low, high = (middle, high) if ask(clip, middle).accepted else (low, middle)
    cosines = [
        copy.cosine(llr, enrol_speech_s, answer.speech_s, answer.snr_db) for llr in (low, high)
    ]
    return sum(cosines) / 2, (cosines[1] - cosines[0]) / math.sqrt(12)


# --- equalising ---


def equalised(clip: Samples, gains_db: Vector) -> Samples:
    """The clip through an equaliser of so many bands, evenly spaced on the mel scale."""
    spectrum = np.fft.rfft(clip)
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(len(clip), 1 / RATE) / 700)
    shape = np.interp(mel, np.linspace(0, mel[-1], len(gains_db)), gains_db)
    made = np.fft.irfft(spectrum * 10 ** (shape / 20), len(clip))
    return (0.7 * made / np.abs(made).max()).astype(np.float32)


def towards(copy: Copy, clip: Samples, voice: Vector) -> Samples:
    """The clip equalised off line, by an evolution strategy, to come nearest to a voice."""
    chance = np.random.default_rng(_SEED)
    mean, spread = np.zeros(_BANDS), np.full(_BANDS, 6.0)
    best, best_cosine = clip, -1.0
    for _ in range(_GENERATIONS):
        gains = mean + spread * chance.standard_normal((_POPULATION, _BANDS))
        gains = np.clip(gains, -_LOUDEST_DB, _LOUDEST_DB)
        clips = [equalised(clip, one) for one in gains]
        cosines = copy.embed(clips) @ voice
        elite = gains[np.argsort(-cosines)[: _POPULATION // 4]]
        mean = 0.3 * mean + 0.7 * elite.mean(axis=0)
        spread = np.maximum(0.95 * (0.7 * spread + 0.3 * elite.std(axis=0)), 0.3)
        if cosines.max() > best_cosine:
            best, best_cosine = clips[int(cosines.argmax())], float(cosines.max())
    return best


def climb(ask: Ask, clip: Samples, calls: int) -> Samples:
    """The clip equalised by small steps, each kept unless its answer is worse."""
    chance = np.random.default_rng(_SEED)
    gains = np.zeros(_BANDS)
    best, made = (-math.inf, 0), clip
    step = 3.0
    with suppress(Refused):
        for _ in range(calls):
            tried = gains + step * chance.standard_normal(_BANDS)
            tried = np.clip(tried, -_LOUDEST_DB, _LOUDEST_DB)
            candidate = equalised(clip, tried)
            answer = ask(candidate, _LOWEST_LLR)
            worth = (-math.inf if answer.llr is None else answer.llr, answer.level)
            if worth >= best:
                gains, best, made = tried, worth, candidate
                step = min(step * 1.2, 6.0)
            else:
                step = max(step * 0.97, 0.5)
    return made


# --- the attack, measured ---


@dataclass(slots=True)
class Attack:
    copy: Copy
    given: Material
    probes: Vectors
    made: dict[tuple[bytes, int], Samples] = field(default_factory=dict)

    def run(self, label: str, *roles: str, **settings: object) -> list[Figure]:
        with target(**settings) as (server, key_of):
            victims = server.enrol(self.given.victims)
            key = key_of(*roles)
            figures: list[Figure] = []
            for rpc in ("verify", "identify"):
                reached = [self._solve(server, key, rpc, name) for name in victims]
                figures += self._solved(f"attack_{label}_{rpc}", reached, server, victims)
            figures += self._climbed(f"attack_{label}_climb", server, key, victims)
        return figures

    def blind(self) -> list[Figure]:
        """What the attacker reaches without a single answer."""
        with target() as (server, _):
            victims = server.enrol(self.given.victims)
            guess = Guess.of(self.probes).voice
            cosines = [float(guess @ server.template(name)[0]) for name in victims]
            how = "the mean of other voices, without a call"
            figures = [figure("attack_blind_cosine", cosines, "cosine", None, how)]
            figures += self._asked("attack_blind", [guess] * len(victims), server, victims, how)
            plain = [
                server.judged(name, clip)
                for name, clip in zip(victims, self.given.strangers, strict=True)
            ]
            llrs = [-math.inf if one.llr is None else one.llr for one in plain]
            how = "the strangers' recordings as they are"
            return [*figures, figure("attack_plain_llr", llrs, "llr", None, how)]

    def _solve(
        self, server: Target, key: str, rpc: str, name: str
    ) -> tuple[dict[int, float], Vector, Oracle]:
        """The cosine reached after some numbers of calls, the voice found, and what was asked."""
        stored, enrol_speech_s = server.template(name)
        oracle, guess = Oracle(server, key, rpc, name), Guess.of(self.probes)
        reached: dict[int, float] = {}
        with suppress(Refused):
            for clip, row in zip(self.given.probes, self.probes, strict=True):
                seen = measure(oracle, self.copy, clip, enrol_speech_s)
                if seen is not None:
                    guess.add(row, *seen)
                for calls in CALLS:
                    if oracle.calls >= calls and calls not in reached:
                        reached[calls] = float(guess.voice @ stored)
        server.unlock(name)
        last = float(guess.voice @ stored)
        return {calls: reached.get(calls, last) for calls in CALLS}, guess.voice, oracle

    def _solved(
        self,
        prefix: str,
        reached: Sequence[tuple[dict[int, float], Vector, Oracle]],
        server: Target,
        victims: Sequence[str],
    ) -> list[Figure]:
        answered = [oracle.calls for _, _, oracle in reached]
        refusals = sorted({oracle.refusal for _, _, oracle in reached if oracle.refusal})
        how = f"least squares on {len(self.given.probes)} recordings of other voices"
        ended = f"; then refused: {refusals[0]}" if refusals else ""
        figures = [
            figure(
                f"{prefix}_cosine_{calls}",
                [at[calls] for at, _, _ in reached],
                "cosine",
                None,
                f"with the stored voice, after {calls} calls or all that were answered; {how}",
            )
            for calls in CALLS
        ]
        figures.append(figure(f"{prefix}_calls", answered, "calls", None, how + ended))
        found = [vector for _, vector, _ in reached]
        return figures + self._asked(prefix, found, server, victims, how)

    def _asked(
        self,
        prefix: str,
        found: Sequence[Vector],
        server: Target,
        victims: Sequence[str],
        how: str,
    ) -> list[Figure]:
        """What the server says to strangers equalised towards what was found."""
        judged = []
        for number, (name, vector) in enumerate(zip(victims, found, strict=True)):
            clip = self._towards(number, vector)
            judged.append(server.judged(name, clip))
        return _judged(prefix, judged, f"a stranger equalised towards it off line; {how}")

    def _towards(self, number: int, vector: Vector) -> Samples:
        key = vector.round(6).tobytes(), number
        if key not in self.made:
            self.made[key] = towards(self.copy, self.given.strangers[number], vector)
        return self.made[key]

    def _climbed(
        self, prefix: str, server: Target, key: str, victims: Sequence[str]
    ) -> list[Figure]:
        judged, calls = [], []
        for name, stranger in zip(victims, self.given.strangers, strict=True):
            oracle = Oracle(server, key, "verify", name)
            clip = climb(oracle, stranger, _CLIMB_CALLS)
            calls.append(oracle.calls)
            judged.append(server.judged(name, clip))
        how = "a stranger equalised step by step, by what each answer says"
        return [
            figure(f"{prefix}_calls", calls, "calls", None, how),
            *_judged(prefix, judged, how),
        ]


def _judged(prefix: str, judged: Sequence[Answer], how: str) -> list[Figure]:
    llrs = [-100.0 if one.llr is None else one.llr for one in judged]
    share = sum(one.accepted for one in judged) / len(judged)
    aim = None if "analyze" in prefix else below(0.0)
    return [
        figure(f"{prefix}_llr", llrs, "llr", None, how),
        figure(f"{prefix}_accepted", [share], "of victims", aim, how),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/manifest.csv"))
    parser.add_argument("--probes", type=int, default=256)
    parser.add_argument("--victims", type=int, default=4)
    asked = parser.parse_args()
    copy = Copy()
    given = material(asked.data, asked.victims, asked.probes)
    attack = Attack(copy, given, copy.embed(given.probes))
    write(
        "attack",
        [
            *attack.blind(),
            *attack.run("analyze", "verify", "analyze"),
            *attack.run("verify", "verify"),
            *attack.run("verify_unlocked", "verify", lock_after_failures=0),
        ],
    )


if __name__ == "__main__":
    main()
