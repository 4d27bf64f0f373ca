"""Measure what a credential can learn of a stored voice from the server's answers.

    python -m benchmarks.security.attack [--data ../shared/data/manifest.csv] [--probes 260]
        [--victims 4]

Writes benchmarks/results/attack.json. The attacker never hears the victim. Its key has

    scores     the roles `verify` and `analyze`, on a server without a lock
    answers    the role `verify`, on a server as it comes
    unlocked   the role `verify`, on a server without a lock
    owned      the role `verify`; this attacker does have a recording of the victim
"""

import argparse
import csv
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from sayso.v1 import (
    group_pb2,
    group_pb2_grpc,
    speaker_pb2,
    speaker_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)

from benchmarks.figures import Figure, figure, write
from benchmarks.security.attacker import (
    GROUP,
    LINEAR16,
    RATE,
    SERVERS_OWN,
    Answer,
    Copy,
    Guess,
    Oracle,
    Refused,
    Samples,
    Vector,
    Vectors,
    climb,
    equalize_at_random,
    make_credential,
    measure,
    pcm,
)
from service.access import Role, key_file
from service.access.keys import make_key
from service.audio.decoding import AudioFormat, decode
from service.decisions.scoring import average_voice
from tests.support.sayso_server import SaysoServer

CALLS = (24, 96, 192, 768)
"""The calls after which the cosine reached is told."""

_ENROL_S, _OWN_S, _PROBE_S, _LEAST_S = 12.0, 4.0, 2.8, 1.5
_STEPS, _VARIANTS = 300, 100
_CHUNK_BYTES = 15_000
_SEED = 14


@dataclass(frozen=True, slots=True)
class Material:
    """The recordings: for each victim one to enroll, another of the same voice and a stranger's;
    and recordings of further voices."""

    victims: list[Samples]
    own: list[Samples]
    strangers: list[Samples]
    others: list[Samples]


def choose_material(manifest: Path, victims: int, others: int) -> Material:
    """Choose recordings of speakers of the split `dev`, which no model is trained on."""
    chance, recordings = np.random.default_rng(_SEED), _group_by_speaker(manifest)
    needed_s = _ENROL_S + _OWN_S
    long = [name for name in sorted(recordings) if _measure_seconds(recordings[name]) >= needed_s]
    chance.shuffle(long)
    chosen = long[: 2 * victims]
    spoken = [
        _read_speech(manifest, [path for path, _ in recordings[at]], needed_s) for at in chosen
    ]
    enrol, own = round(_ENROL_S * RATE), round(_OWN_S * RATE)
    paths = [
        path
        for name in sorted(recordings)
        for path, seconds in recordings[name]
        if name not in chosen and seconds >= _LEAST_S
    ]
    chance.shuffle(paths)
    return Material(
        [clip[:enrol] for clip in spoken[:victims]],
        [clip[enrol:] for clip in spoken[:victims]],
        [clip[:own] for clip in spoken[victims:]],
        [_read_speech(manifest, [path], _PROBE_S) for path in paths[:others]],
    )


def _group_by_speaker(manifest: Path) -> dict[str, list[tuple[str, float]]]:
    recordings = defaultdict[str, list[tuple[str, float]]](list)
    with manifest.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] == "dev":
                name = f"{row['corpus']}/{row['speaker']}"
                recordings[name].append((row["path"], float(row["seconds"])))
    return recordings


def _measure_seconds(recordings: Sequence[tuple[str, float]]) -> float:
    return sum(seconds for _, seconds in recordings)


def _read_speech(manifest: Path, paths: Sequence[str], most_s: float) -> Samples:
    """Join recordings, up to `most_s` seconds."""
    parts: list[Samples] = []
    for path in paths:
        audio = (manifest.parent / path).read_bytes()
        parts.append(decode(audio, AudioFormat(), rate=RATE, max_s=600))
        if sum(map(len, parts)) >= most_s * RATE:
            break
    return np.concatenate(parts)[: round(most_s * RATE)]


class Target:
    """A server with a key file, and its operator's connection, which has every role."""

    def __init__(self, address: str, operator: str) -> None:
        channel = grpc.insecure_channel(address)
        self.voices: Any = verification_pb2_grpc.VerificationServiceStub(channel)
        self._speakers: Any = speaker_pb2_grpc.SpeakerServiceStub(channel)
        self._groups: Any = group_pb2_grpc.GroupServiceStub(channel)
        self._shown = make_credential(operator)
        self._operator = operator

    def enrol(self, recordings: Sequence[Samples]) -> list[str]:
        """Enroll voices, all in one group; return their ids."""
        names = [f"victim-{number}" for number in range(len(recordings))]
        for name, clip in zip(names, recordings, strict=True):
            *_, last = self.voices.StreamingEnroll(
                _enrolment(name, pcm(clip)), metadata=self._shown
            )
            assert last.result.stored, last.result.explanation
        group = group_pb2.CreateGroupRequest(group=group_pb2.Group(name=GROUP))
        self._groups.CreateGroup(group, metadata=self._shown)
        members = group_pb2.AddMembersRequest(group_name=GROUP, speaker_ids=names)
        self._groups.AddMembers(members, metadata=self._shown)
        return names

    def template(self, name: str) -> tuple[Vector, float]:
        """Read the stored voice, and the seconds of speech behind it."""
        request = speaker_pb2.ExportSpeakerRequest(speaker_id=name)
        (voiceprint,) = self._speakers.ExportSpeaker(request, metadata=self._shown).voiceprints
        vectors = np.array([each.values for each in voiceprint.vectors], np.float32)
        speech_s = np.array([each.net_speech_s for each in voiceprint.vectors], np.float32)
        return average_voice(vectors, speech_s).astype(np.float64), float(speech_s.sum())

    def judge(self, name: str, clip: Samples) -> Answer:
        """Ask for the server's decision by its own policy, with every score."""
        return Oracle(self.voices, self._operator, "Verify", name).ask(clip, SERVERS_OWN)


def _enrolment(name: str, audio: bytes) -> Iterator[verification_pb2.StreamingEnrollRequest]:
    config = verification_pb2.EnrollConfig(speaker_id=name, audio_config=LINEAR16)
    yield verification_pb2.StreamingEnrollRequest(config=config)
    for at in range(0, len(audio), _CHUNK_BYTES):
        yield verification_pb2.StreamingEnrollRequest(audio=audio[at : at + _CHUNK_BYTES])


@contextmanager
def start_target(*roles: str, **settings: Any) -> Iterator[tuple[Target, str]]:
    """Start a server, and make a key with these roles."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.json"

        def create(granted: Sequence[Role]) -> str:
            key, entry = make_key("bank", granted, now=datetime.now(UTC), expires=None)
            key_file.change(keys, lambda grants: (grants.replace(entry), None))
            return key

        operator = create(list(Role))
        attacker = create([role for role in Role if role.value in roles] or [Role.VERIFY])
        with SaysoServer(store=f"sqlite:///{folder}/sayso.db", keys=keys, **settings) as running:
            yield Target(running.address, operator), attacker


@dataclass(slots=True)
class Solved:
    """A voice reconstructed from answers: its cosine with the stored one after some numbers of
    calls, the number of calls, how many recordings were accepted as they are, and the refusal
    that ended it."""

    voice: Vector
    reached: dict[int, float]
    calls: int
    accepted: int
    refusal: str


@dataclass(slots=True)
class Attack:
    copy: Copy
    given: Material
    embeddings: Vectors
    """Of `given.others`."""
    _made: dict[bytes, Samples] = field(default_factory=dict)

    def guess_blindly(self) -> list[Figure]:
        """Measure the cosine that is reached without a single answer."""
        with start_target() as (server, _):
            names = server.enrol(self.given.victims)
            guess = Guess.from_voices(self.embeddings).voice
            how = "the mean of other voices, without a call"
            cosines = [float(guess @ server.template(name)[0]) for name in names]
            return [
                figure("attack_blind_cosine", cosines, "cosine", None, how),
                *self._judge_equalized("attack_blind", [guess] * len(names), how),
            ]

    def run(
        self, label: str, roles: Sequence[str], rpcs: Sequence[str], **settings: object
    ) -> list[Figure]:
        figures: list[Figure] = []
        for rpc in rpcs:
            with start_target(*roles, **settings) as (server, key):
                names = server.enrol(self.given.victims)
                solved = [
                    self._solve(Oracle(server.voices, key, rpc, name), server, self.given.others)
                    for name in names
                ]
                prefix = f"attack_{label}_{rpc.lower()}"
                how = f"least squares over {rpc} about {len(self.given.others)} recordings"
                found = [each.voice for each in solved]
                figures += _make_figures(prefix, solved, how)
                figures += self._judge_equalized(prefix, found, how)
        with start_target(*roles, **settings) as (server, key):
            figures += self._climb_all(f"attack_{label}_climb", server, key)
        return figures

    def attack_with_recording(
        self, label: str, roles: Sequence[str], **settings: object
    ) -> list[Figure]:
        """Attack with a recording of the victim.

        The recording is accepted, and policies stricter than the server's are followed, so that
        scores above the server's threshold can be searched."""
        solved, start = [], []
        with start_target(*roles, **settings) as (server, key):
            names = server.enrol(self.given.victims)
            for name, own in zip(names, self.given.own, strict=True):
                clips = [own, *equalize_at_random(own, _VARIANTS)]
                oracle = Oracle(server.voices, key, "Verify", name)
                solved.append(self._solve(oracle, server, clips))
                start.append(float(self.copy.embed([own])[0] @ server.template(name)[0]))
        how = "a recording of the victim through random equalisers, scores by bisection"
        prefix = f"attack_{label}"
        first = figure(f"{prefix}_start", start, "cosine", None, "of that recording itself")
        return [first, *_make_figures(prefix, solved, how)]

    def _solve(self, oracle: Oracle, server: Target, clips: Sequence[Samples]) -> Solved:
        stored, enrol_speech_s = server.template(oracle.victim)
        rows = self.embeddings if clips is self.given.others else self.copy.embed(clips)
        guess, reached, accepted = Guess.from_voices(self.embeddings), dict[int, float](), 0
        with suppress(Refused):
            for clip, row in zip(clips, rows, strict=True):
                seen = measure(oracle, self.copy, clip, enrol_speech_s)
                if seen is not None:
                    guess.add(row, *seen)
                    accepted += 1
                for calls in CALLS:
                    if oracle.calls >= calls:
                        reached.setdefault(calls, float(guess.voice @ stored))
        last = float(guess.voice @ stored)
        reached = {calls: reached.get(calls, last) for calls in CALLS}
        return Solved(guess.voice, reached, oracle.calls, accepted, oracle.refusal)

    def _judge_equalized(self, prefix: str, found: Sequence[Vector], how: str) -> list[Figure]:
        how = f"{how}; then the nearest of them, equalised off line"
        return self._judge_clips(prefix, [self._equalize_towards(vector) for vector in found], how)

    def _equalize_towards(self, vector: Vector) -> Samples:
        """Take the recording that is nearest to a voice, and equalize it with the model's copy
        alone to come nearer."""
        key = vector.round(3).tobytes()
        if key not in self._made:
            nearest = self.given.others[int((self.embeddings @ vector).argmax())]
            self._made[key] = climb(
                lambda clip: float(self.copy.embed([clip])[0] @ vector), nearest, _STEPS
            )
        return self._made[key]

    def _climb_all(self, prefix: str, server: Target, key: str) -> list[Figure]:
        names, clips, calls = server.enrol(self.given.victims), [], []
        for name, stranger in zip(names, self.given.strangers, strict=True):
            oracle = Oracle(server.voices, key, "Verify", name)
            clips.append(climb(oracle.worth, stranger, _STEPS))
            calls.append(oracle.calls)
        how = "a stranger equalised step by step, by what each answer says"
        return [
            figure(f"{prefix}_calls", calls, "calls", None, how),
            *self._judge_clips(prefix, clips, how),
        ]

    def _judge_clips(self, prefix: str, clips: Sequence[Samples], how: str) -> list[Figure]:
        """Ask a fresh server for its decision on one clip for each victim."""
        with start_target(lock_after_failures=0) as (server, _):
            names = server.enrol(self.given.victims)
            answers = [server.judge(*answer) for answer in zip(names, clips, strict=True)]
        llrs = [-100.0 if answer.llr is None else answer.llr for answer in answers]
        share = sum(answer.accepted for answer in answers) / len(answers)
        return [
            figure(f"{prefix}_llr", llrs, "llr", None, how),
            figure(f"{prefix}_accepted", [share], "of victims", None, how),
        ]


def _make_figures(prefix: str, solved: Sequence[Solved], how: str) -> list[Figure]:
    ends = sorted({each.refusal for each in solved if each.refusal})
    ended = f"; ended by: {ends[0]}" if ends else ""
    return [
        *(
            figure(
                f"{prefix}_cosine_{calls}",
                [each.reached[calls] for each in solved],
                "cosine",
                None,
                f"with the stored voice, after {calls} calls or all that were answered; {how}",
            )
            for calls in CALLS
        ),
        figure(f"{prefix}_calls", [each.calls for each in solved], "calls", None, how + ended),
        figure(
            f"{prefix}_scores",
            [each.accepted for each in solved],
            "scores",
            None,
            f"that the answers told; {how}",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/manifest.csv"))
    parser.add_argument("--probes", type=int, default=260)
    parser.add_argument("--victims", type=int, default=4)
    arguments = parser.parse_args()
    copy = Copy()
    given = choose_material(arguments.data, arguments.victims, arguments.probes)
    attack = Attack(copy, given, copy.embed(given.others))
    unlocked = {"lock_after_failures": 0}
    write(
        "attack",
        [
            *attack.guess_blindly(),
            *attack.run("scores", ["verify", "analyze"], ["Verify", "Identify"], **unlocked),
            *attack.run("answers", ["verify"], ["Verify", "Identify"]),
            *attack.run("unlocked", ["verify"], ["Verify"], **unlocked),
            *attack.attack_with_recording("owned", ["verify"]),
        ],
    )


if __name__ == "__main__":
    main()
