"""What a key may learn from a server's answers: scores need the role `analyze`, and without it no
policy, stream or search tells how near a guess came."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from sayso import Client, Embedding, Overloaded, PermissionDenied, RawAudio, SequentialTest
from sayso.v1 import audio_pb2, decision_pb2, verification_pb2, verification_pb2_grpc
from typer.testing import CliRunner

from service.audio.decoding import AudioFormat, decode
from service.commands.application import app
from tests.support.keys import create
from tests.support.local_server import LocalServer
from tests.support.score_fields import contains_score
from tests.support.voices import clips

OWNER, OTHERS = "slt", ("awb", "rms", "kal")
LINEAR16 = audio_pb2.AudioConfig(
    encoding=audio_pb2.AUDIO_ENCODING_LINEAR16, sample_rate_hertz=16000, channels=1
)
LOOSEST = -40.0


@dataclass(frozen=True, slots=True)
class Keyed:
    """A server with an enrolled voice, in a group; `verify` and `analyze` are keys."""

    address: str
    verify: str
    analyze: str

    def answers(self, key: str, clip: bytes, llr: float | None = None) -> Iterator[Message]:
        """Of every rpc that compares a voice, by a policy with that threshold."""
        policy = reaching(llr)
        options: dict[str, Any] = {"metadata": (("x-api-key", key),)}
        with grpc.insecure_channel(self.address) as channel:
            voices = verification_pb2_grpc.VerificationServiceStub(channel)
            audio: dict[str, Any] = {"audio_config": LINEAR16, "audio": clip, "policy": policy}
            yield voices.Verify(
                verification_pb2.VerifyRequest(speaker_id=OWNER, watchlists=["all"], **audio),
                **options,
            )
            yield voices.Identify(
                verification_pb2.IdentifyRequest(group_name="all", max_candidates=9, **audio),
                **options,
            )
            for continuous, sequential in ((False, False), (True, True)):
                config = verification_pb2.StreamingVerifyConfig(
                    speaker_id=OWNER,
                    audio_config=LINEAR16,
                    policy=policy,
                    watchlists=["all"],
                    identify_group_name="all",
                    continuous=continuous,
                    max_candidates=9,
                )
                if sequential:
                    config.policy.sequential.SetInParent()
                yield from voices.StreamingVerify(stream(config, clip), **options)


def reaching(llr: float | None) -> decision_pb2.DecisionPolicy:
    if llr is None:
        return decision_pb2.DecisionPolicy()
    costs = decision_pb2.CostModel(
        target_prior=0.5, miss_cost=1, false_accept_cost=2.718281828459045**llr
    )
    return decision_pb2.DecisionPolicy(costs=costs)


def stream(config: Any, clip: bytes) -> Iterator[verification_pb2.StreamingVerifyRequest]:
    yield verification_pb2.StreamingVerifyRequest(config=config)
    for at in range(0, len(clip), 15000):
        yield verification_pb2.StreamingVerifyRequest(audio=clip[at : at + 15000])


def samples(speaker: str) -> bytes:
    audio = clips(speaker, "verify")[0].read_bytes()
    heard = decode(audio, AudioFormat(), rate=16000, max_s=60)
    return (heard * 32767).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("oracle")
    keys = folder / "keys.json"
    verify, analyze = create(keys, "bank", "verify"), create(keys, "bank", "verify", "analyze")
    operator = create(keys, "bank", "enroll", "admin")
    with LocalServer(
        store=f"sqlite:///{folder}/sayso.db", keys=keys, lock_after_failures=0
    ) as running:
        with Client(running.address, credential=operator) as sayso:
            assert sayso.enroll(OWNER, clips(OWNER, "enroll")[0]).stored
            sayso.groups.create("all")
            sayso.groups.add_members("all", [OWNER])
        yield Keyed(running.address, verify, analyze)


def decisions(answers: Iterable[Any]) -> Iterator[decision_pb2.Decision]:
    for answer in answers:
        yield answer.decision
        if isinstance(answer, verification_pb2.StreamingVerifyResponse):
            yield answer.identification


@pytest.mark.parametrize("llr", [None, LOOSEST])
@pytest.mark.parametrize("speaker", [OWNER, OTHERS[0]])
def test_no_answer_holds_a_score_without_the_role(
    keyed: Keyed, speaker: str, llr: float | None
) -> None:
    answers = list(keyed.answers(keyed.verify, samples(speaker), llr))
    assert not [answer for answer in answers if contains_score(answer)]
    assert all(map(contains_score, keyed.answers(keyed.analyze, samples(speaker), llr)))


def test_answers_about_strangers_differ_in_nothing_but_the_quality_of_the_audio(
    keyed: Keyed,
) -> None:
    """At any threshold of the caller's choice: no guess is told from another."""
    told = {
        (
            decision.outcome,
            decision.band,
            decision.explanation,
            decision.threshold.description.partition(";")[0],
            tuple(decision.reasons),
        )
        for other in OTHERS
        for llr in (LOOSEST, -3.0, 0.0, 2.0)
        for decision in decisions(list(keyed.answers(keyed.verify, samples(other), llr))[:2])
    }
    assert {outcome for outcome, *_ in told} == {decision_pb2.OUTCOME_REJECTED}
    assert {band for _, band, *_ in told} == {decision_pb2.BAND_WEAK}
    assert len(told) == 2, "one for Verify, one for Identify"


@pytest.mark.parametrize("rate", [1e-9, 0.3])
def test_the_rates_of_a_sequential_test_tell_nothing_of_a_stranger(
    keyed: Keyed, rate: float
) -> None:
    outcomes = []
    for given in (None, rate):
        test = decision_pb2.SequentialTest(false_non_match_rate=given)
        config = verification_pb2.StreamingVerifyConfig(
            speaker_id=OWNER,
            audio_config=LINEAR16,
            policy=decision_pb2.DecisionPolicy(sequential=test),
        )
        with grpc.insecure_channel(keyed.address) as channel:
            voices = verification_pb2_grpc.VerificationServiceStub(channel)
            call = voices.StreamingVerify(
                stream(config, samples(OTHERS[0])), metadata=(("x-api-key", keyed.verify),)
            )
            outcomes.append([answer.decision.outcome for answer in call])
    assert outcomes[0] == outcomes[1]


def test_a_sequential_search_rejects_nobody_early(keyed: Keyed) -> None:
    """No lock bounds how often a search is made, and on which side of a lower bound a score is
    would tell it."""

    def outcomes(key: str) -> set[str]:
        found: set[str] = set()
        with Client(keyed.address, credential=key) as sayso:
            for other in OTHERS:
                heard = sayso.verify_stream(
                    "",
                    [samples(other)],
                    raw=RawAudio("LINEAR16", 16000),
                    identify_group="all",
                    sequential=SequentialTest(max_net_speech_s=60),
                )
                *early, _ = heard
                found |= {at.identification.decision.outcome for at in early if at.identification}
        return found

    assert outcomes(keyed.verify) == {"INCONCLUSIVE"}
    assert "REJECTED" in outcomes(keyed.analyze)


def test_a_stricter_policy_is_followed_and_a_looser_one_needs_the_role(keyed: Keyed) -> None:
    with (
        Client(keyed.address, credential=keyed.verify) as plain,
        Client(keyed.address, credential=keyed.analyze) as analyst,
    ):
        call = clips(OWNER, "verify")[0]
        strict = plain.verify(OWNER, call, target_false_match_rate=0.001)
        assert strict.threshold_description == "target false-match rate 0.001 (request)"
        loose = plain.verify(OWNER, call, target_false_match_rate=0.1)
        assert "needs the role analyze" in loose.threshold_description
        seen = analyst.verify(OWNER, call, target_false_match_rate=0.1)
        assert seen.threshold_description == "target false-match rate 0.1 (request)"
        assert (seen.outcome, seen.band) == ("ACCEPTED", plain.verify(OWNER, call).band)
        assert seen.llr is not None
        assert loose.llr is loose.cosine is loose.threshold_llr is None


def test_a_search_names_nobody_but_who_is_accepted(keyed: Keyed) -> None:
    with (
        Client(keyed.address, credential=keyed.verify) as plain,
        Client(keyed.address, credential=keyed.analyze) as analyst,
    ):
        mine, theirs = (clips(speaker, "verify")[0] for speaker in (OWNER, OTHERS[0]))
        found = plain.identify("all", mine, max_candidates=9)
        assert [(at.speaker_id, at.llr, at.cosine) for at in found.candidates] == [
            (OWNER, None, None)
        ]
        assert plain.identify("all", theirs, max_candidates=9).candidates == ()
        assert [at.speaker_id for at in analyst.identify("all", theirs).candidates] == [OWNER]


def test_the_command_line_says_it_in_words(keyed: Keyed) -> None:
    def run(key: str, *arguments: str) -> str:
        call = str(clips(OWNER, "verify")[0])
        done = CliRunner(env={"SAYSO_CREDENTIAL": key, "COLUMNS": "300"}).invoke(
            app, [*arguments, call, "--server", keyed.address]
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    for asked in (("verify", OWNER, "--watchlist", "all"), ("identify", "all")):
        plain, analyst = run(keyed.verify, *asked), run(keyed.analyze, *asked)
        assert re.search("moderate|strong", plain)
        assert not re.search(r"\d\.\d\d", plain.replace("0.01", ""))
        assert re.search(r"\d\.\d\d", analyst.replace("0.01", ""))


def test_embeddings_need_the_role(keyed: Keyed) -> None:
    call = clips(OWNER, "verify")[0]
    with Client(keyed.address, credential=keyed.analyze) as analyst:
        made = analyst.embed(call)
        assert made is not None
        assert analyst.compare(made, made) == pytest.approx(1.0, abs=1e-5)
    with Client(keyed.address, credential=keyed.verify) as plain:
        with pytest.raises(PermissionDenied, match="analyze"):
            plain.embed(call)
        with pytest.raises(PermissionDenied, match="analyze"):
            plain.compare(made, made)


def test_without_keys_everybody_sees_everything(tmp_path: Path) -> None:
    with (
        LocalServer(
            store=f"sqlite:///{tmp_path}/sayso.db", speaker_comparisons_per_s=1e-6
        ) as running,
        running.client() as sayso,
    ):
        sayso.enroll(OWNER, clips(OWNER, "enroll")[0])
        for _ in range(5):
            made = sayso.verify(OWNER, clips(OWNER, "verify")[0])
            assert None not in (made.llr, made.cosine, made.threshold_llr, made.band)


def test_comparisons_have_a_budget_by_speaker_and_by_credential(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    mine, theirs = create(keys, "bank", "verify", "enroll"), create(keys, "bank", "verify", "admin")
    call = clips(OWNER, "verify")[0]
    with (
        LocalServer(
            store=f"sqlite:///{tmp_path}/sayso.db",
            keys=keys,
            speaker_comparisons_per_s=1e-4,
            credential_comparisons_per_s=1e-3,
            comparison_burst_s=8000,
        ) as running,
        Client(running.address, credential=mine) as sayso,
        Client(running.address, credential=theirs) as other,
    ):
        for speaker in (OWNER, OTHERS[0]):
            sayso.enroll(speaker, clips(speaker, "enroll")[0])
        other.groups.create("all")
        sayso.verify(OWNER, call)  # more than the one window that there is, and a debt from then on
        for ask in (sayso, other):
            with pytest.raises(Overloaded, match="this speaker is compared") as caught:
                ask.verify(OWNER, call)
            assert caught.value.retry_after_s > 60
        with pytest.raises(Overloaded, match="this speaker is compared"):
            list(sayso.verify_stream(OWNER, [call.read_bytes()]))
        sayso.verify(OTHERS[0], call)
        with pytest.raises(Overloaded, match=r"key:\w+ compares"):
            for _ in range(9):
                sayso.identify("all", call)
        assert other.identify("all", call).decision.outcome == "REJECTED"


def test_every_pair_is_compared_and_a_thousand_are_the_most(keyed: Keyed) -> None:
    with Client(keyed.address, credential=keyed.analyze) as analyst:
        made = [analyst.embed(clips(name, "verify")[0]) for name in (OWNER, *OTHERS)]
        alone = [analyst.compare(one, other) for one in made for other in made if one and other]
    voices, shown = messages(made), (("x-api-key", keyed.analyze),)
    with grpc.insecure_channel(keyed.address) as channel:
        compare = verification_pb2_grpc.VerificationServiceStub(channel).Compare

        def compared(times: int) -> list[float]:
            asked = verification_pb2.CompareRequest(left=voices * times, right=voices)
            return [each.cosine for each in compare(asked, metadata=shown).comparisons]

        assert compared(1) == pytest.approx(alone, abs=1e-6)
        assert len(compared(62)) == 992
        with pytest.raises(grpc.RpcError) as caught:
            compared(63)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def messages(made: Iterable[Embedding | None]) -> list[verification_pb2.Embedding]:
    return [
        verification_pb2.Embedding(
            model_id=each.model_id, values=each.values, net_speech_s=each.net_speech_s
        )
        for each in made
        if each is not None
    ]


def test_who_enrolled_confirms_nothing_of_it(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    agent = create(keys, "bank", "enroll", "confirm")
    office = create(keys, "bank", "confirm")
    plain = create(keys, "bank", "enroll")
    with (
        LocalServer(
            store=f"sqlite:///{tmp_path}/sayso.db", keys=keys, confirm_enrollments=True
        ) as running,
        Client(running.address, credential=agent) as enrolling,
        Client(running.address, credential=plain) as adding,
        Client(running.address, credential=office) as confirming,
    ):
        first, *_ = clips(OWNER, "enroll")
        enrolling.enroll(OWNER, first)
        with pytest.raises(PermissionDenied, match="role confirm"):
            adding.speakers.confirm(OWNER)
        with pytest.raises(PermissionDenied, match="another credential"):
            enrolling.speakers.confirm(OWNER)
        # an undo brings back the own voice, also after somebody else's was confirmed
        adding.enroll(OWNER, clips(OTHERS[0], "enroll")[0], replace=True)
        assert confirming.speakers.confirm(OWNER).state == "ENROLLED"
        assert enrolling.speakers.undo(OWNER).state == "UNCONFIRMED"
        with pytest.raises(PermissionDenied, match="another credential"):
            enrolling.speakers.confirm(OWNER)
        assert confirming.speakers.confirm(OWNER).state == "ENROLLED"
