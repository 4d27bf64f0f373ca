"""Two models at once: spaces of different dimensions, so that a mixed comparison cannot pass."""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from service.audio.quality import Quality
from service.audio.speech import VoiceActivity
from service.audit import Auditor, Origin
from service.calls.claims import Claim
from service.calls.identification import Identifier
from service.calls.migration import MigratingModels, MigrationCounts, count_migrated
from service.calls.models import LoadedModel, LoadedModels
from service.calls.verification import Verifier
from service.contract import Calibration, Contract
from service.decisions.decision import Decision, Outcome, Reason
from service.decisions.policy import (
    Policy,
    PolicyDefaults,
    QualityGate,
    SequentialTest,
    ThresholdSource,
)
from service.inference.embedder import Embedder, Utterance
from service.inference.session import Session
from service.settings import Duplicates, EnrollmentRules, LearningRule
from service.speakers.adaptation import (
    AcceptedCall,
    CallLearner,
    adapt_with,
    migrate_with,
)
from service.speakers.enrollment import Enroller, EnrollmentRequest
from service.speakers.lifecycle import Retention, change_speaker, opt_out, undo_enrollment
from service.speakers.voiceprints import ModelSuccession
from service.store import Consent, Group, Speaker, SpeakerState, Store, Voiceprint, open_store

Samples = NDArray[np.float32]
SaveModel = Callable[..., Path]

T = "tenant"
RETENTION = Retention(clock=lambda: 1000.0)
POLICY = Policy(0.01, ThresholdSource.REQUEST, QualityGate(1.0, 0.0, 0.1))
OLD = Contract(
    model_id="old",
    sample_rate=16000,
    window_samples=32000,
    hop_samples=16000,
    min_speech_samples=8000,
    dimension=4,
    calibration=Calibration(-10.0, {"cosine": 20.0}, ((0.1, 0.0), (0.01, 2.0)), "made"),
)
NEW = replace(
    OLD,
    model_id="new",
    dimension=6,
    calibration=Calibration(-12.0, {"cosine": 24.0}, ((0.1, 0.0), (0.01, 3.0)), "made"),
)
DEMANDS = QualityGate(min_speech_s=0.5, min_snr_db=0.0, max_clipping=0.1)


def embedding(contract: Contract, axis: int, angle: float = 0.0) -> np.ndarray[Any, Any]:
    axes = np.eye(contract.dimension, dtype=np.float32)
    return math.cos(angle) * axes[axis] + math.sin(angle) * axes[(axis + 1) % contract.dimension]


def heard(
    axis: int, *, speech_s: float = 4.0, angle: float = 0.1, primary: Contract = OLD
) -> Utterance:
    """The voice `axis` in both spaces, as a call in that of `primary`."""
    quality = Quality(speech_s, speech_s + 1, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    other = NEW if primary is OLD else OLD
    made = {
        each.model_id: Utterance(
            embedding(each, axis, angle), quality, windows=1, model_id=each.model_id
        )
        for each in (OLD, NEW)
    }
    return replace(made[primary.model_id], also=made[other.model_id])


def voiceprint(contract: Contract, axis: int, speech_s: float = 10.0) -> Voiceprint:
    vectors = embedding(contract, axis)[None, :].astype(np.float32)
    return Voiceprint(contract.model_id, vectors, np.array([speech_s], np.float32), 100.0)


def speaker(name: str, *held: Voiceprint, state: SpeakerState = SpeakerState.ENROLLED) -> Speaker:
    return Speaker(T, name, state, 100.0, 100.0, voiceprints={each.model_id: each for each in held})


@dataclass
class Service:
    """What a server that upgrades is made of, but for the models themselves."""

    store: Store
    enroller: Enroller
    models: LoadedModels
    learner: CallLearner

    async def put(self, given: Speaker) -> Speaker:
        return await self.store.put(given, expected_etag=None)

    async def get(self, name: str) -> Speaker:
        found = await self.store.get(T, name)
        assert found is not None
        return found

    def decided(self, claimed: Speaker, utterance: Utterance) -> Decision:
        model, claim = self.models.resolve_claim(claimed)
        assert isinstance(claim, Voiceprint)
        return Claim.of_one(model.verifier, claim).verify(
            utterance.for_model(model.model_id), POLICY
        )

    async def learn(
        self, claimed: Speaker, utterance: Utterance, decision: Decision, digest: str = "digest"
    ) -> Speaker | None:
        return await self.learner.learn(AcceptedCall(claimed, utterance, decision, digest))

    async def call(self, claimed: Speaker, utterance: Utterance) -> Speaker | None:
        return await self.learn(claimed, utterance, self.decided(claimed, utterance))


def made(
    store: Store,
    *,
    consent_required: bool = False,
    adapting: LearningRule | None = None,
    **rules: Any,
) -> Service:
    enroller = Enroller(
        store,
        contract=NEW,
        previous=OLD,
        gate=DEMANDS,
        min_speech_s=5.0,
        max_vectors=8,
        rules=EnrollmentRules(**rules),
        retention=RETENTION,
    )
    current, previous = (
        loaded(cast(Embedder, SimpleNamespace(contract=contract))) for contract in (NEW, OLD)
    )
    migrating = LearningRule(2.0, 3.0)
    retention = replace(RETENTION, consent_required=consent_required)
    by_model = {"old": migrate_with(enroller, migrating)}
    if adapting is not None:
        by_model["new"] = adapt_with(enroller, adapting)
    auditor = Auditor(None, origin=lambda: Origin(T, "key:k1"))
    return Service(
        store,
        enroller,
        MigratingModels(current, previous, enroller.voices.succession),
        CallLearner(store, enroller, auditor, retention, by_model),
    )


def loaded(embedder: Embedder) -> LoadedModel:
    contract = embedder.contract
    defaults = PolicyDefaults(POLICY, SequentialTest(0.01, 0.01, 10.0), contract.min_speech_s)
    return LoadedModel(embedder, Verifier(contract, RETENTION), defaults)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path / 'sayso.db'}") as opened:
        yield opened


@pytest.fixture
def service(store: Store) -> Service:
    return made(store)


async def test_a_call_is_heard_in_both_spaces_only_where_it_must_be(
    save_model: SaveModel, vad: VoiceActivity, clips: list[Samples]
) -> None:
    names = ("new", "old")
    paths = [
        save_model(changed={"model_id": name, "dimension": size}, dimension=size)
        for name, size in zip(names, (16, 12), strict=True)
    ]
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(
                Embedder(Session.open(path, device="cpu"), vad, max_batch=4, queue_limit=64)
            )
            for path in paths
        ]
        alone = [await embedder.embed(clips[0]) for embedder in made]
        current, previous = map(loaded, made)
        models = MigratingModels(current, previous, ModelSuccession(names))
        for model, other in ((current, previous), (previous, current)):
            stream = models.open_stream(model, searching=True)
            for start in range(0, len(clips[0]), 5000):
                await stream.push(clips[0][start : start + 5000])
            part, whole = await stream.so_far(), await stream.finish()
            assert part.for_model(other.model_id).embedding is not None
            for name, expected in zip(names, alone, strict=True):
                embedding = whole.for_model(name).embedding
                assert embedding is not None
                assert expected.embedding is not None
                assert embedding @ expected.embedding > 0.9999
        assert (await models.open_stream(current).finish(clips[0])).also is None
        assert (await models.open_stream(previous).finish(clips[0])).also is not None
        alone_stream = LoadedModels(current).open_stream(current, searching=True)
        assert (await alone_stream.finish(clips[0])).also is None


async def test_an_old_voice_is_compared_in_its_own_space(service: Service) -> None:
    alice = speaker("alice", voiceprint(OLD, 0))
    genuine, impostor = service.decided(alice, heard(0)), service.decided(alice, heard(1))
    assert (genuine.outcome, genuine.model_id) == (Outcome.ACCEPTED, "old")
    assert (impostor.outcome, impostor.model_id) == (Outcome.REJECTED, "old")
    assert genuine.threshold is not None
    assert genuine.threshold.llr == 2.0
    both = speaker("bob", voiceprint(OLD, 0), voiceprint(NEW, 3))
    assert service.decided(both, heard(3)).model_id == "new"
    assert service.decided(both, heard(0)).outcome is Outcome.REJECTED


async def test_a_confident_accept_with_enough_speech_moves(service: Service) -> None:
    alice = await service.put(speaker("alice", voiceprint(OLD, 0)))
    moved = await service.call(alice, heard(0, speech_s=6.0))
    assert moved == await service.get("alice")
    assert set(moved.voiceprints) == {"old", "new"}
    assert moved.voiceprints["new"].vectors.shape == (1, 6)
    assert moved.voiceprints["old"] == alice.voiceprints["old"]
    assert service.decided(moved, heard(0)).model_id == "new"
    assert await service.call(moved, heard(0, angle=0.2, speech_s=6.0)) is None


async def test_short_calls_add_up_before_the_new_voice_counts(service: Service) -> None:
    alice = await service.put(speaker("alice", voiceprint(OLD, 0)))
    begun = await service.call(alice, heard(0, speech_s=3.0))
    assert begun is not None
    assert begun.state is SpeakerState.ENROLLED
    assert service.decided(begun, heard(0)).model_id == "old"
    assert await service.call(begun, heard(0, speech_s=3.0)) is None  # the very same recording
    moved = await service.call(begun, heard(0, angle=0.15, speech_s=3.0))
    assert moved is not None
    assert service.decided(moved, heard(0)).model_id == "new"


@pytest.mark.parametrize(
    "utterance",
    [
        pytest.param(heard(0, speech_s=2.9), id="too little speech"),
        pytest.param(heard(0, angle=0.85), id="accepted, not by the margin"),
        pytest.param(heard(1), id="rejected"),
    ],
)
async def test_nothing_less_moves(service: Service, utterance: Utterance) -> None:
    alice = await service.put(speaker("alice", voiceprint(OLD, 0)))
    assert await service.call(alice, utterance) is None
    assert await service.get("alice") == alice


@pytest.mark.parametrize("state", [SpeakerState.UNCONFIRMED, SpeakerState.PENDING])
async def test_only_who_is_enrolled_still_moves(service: Service, state: SpeakerState) -> None:
    alice = speaker("alice", voiceprint(OLD, 0))
    decision = service.decided(alice, heard(0))
    held = await service.put(replace(alice, state=state))
    assert await service.learn(held, heard(0), decision) is None
    assert await service.get("alice") == held


async def test_a_change_meanwhile_forbids_it(service: Service) -> None:
    alice = await service.put(speaker("alice", voiceprint(OLD, 0)))
    decision = service.decided(alice, heard(0))
    gone = await change_speaker(service.store, T, "alice", lambda found: opt_out(found, now=1.0))
    assert await service.learn(alice, heard(0), decision) is None
    assert await service.get("alice") == gone
    bob = await service.put(speaker("bob", voiceprint(OLD, 0)))
    named = await service.store.put(replace(bob, metadata={"a": "b"}), expected_etag=bob.etag)
    assert await service.learn(bob, heard(0), decision) is None
    assert await service.get("bob") == named
    await service.store.delete(T, "alice")
    assert await service.learn(alice, heard(0), decision) is None


async def test_where_consent_is_required_it_must_be_there(store: Store) -> None:
    service = made(store, consent_required=True)
    silent = await service.put(speaker("silent", voiceprint(OLD, 0)))
    assert await service.call(silent, heard(0)) is None
    agreed = replace(speaker("agreed", voiceprint(OLD, 0)), consent=Consent("form 3", 1.0))
    moved = await service.call(await service.put(agreed), heard(0))
    assert moved is not None
    assert moved.consent == agreed.consent


async def test_a_move_is_undone(service: Service) -> None:
    alice = await service.put(speaker("alice", voiceprint(OLD, 0)))
    moved = await service.call(alice, heard(0, speech_s=6.0))
    assert moved is not None
    back = undo_enrollment(moved, now=2000.0)
    assert service.decided(back, heard(0)).model_id == "old"
    assert set(back.voiceprints) == {"old"}


async def test_enrolling_anew_needs_the_old_voice(service: Service) -> None:
    alice = await service.put(speaker("alice", voiceprint(OLD, 0)))
    request = EnrollmentRequest(T, "alice")
    stolen = await service.enroller.add(request, heard(1, primary=NEW))
    assert stolen.reasons == (Reason.VOICE_MISMATCH,)
    assert await service.get("alice") == alice
    added = await service.enroller.add(request, heard(0, speech_s=3.0, primary=NEW))
    assert added.speaker is not None
    assert added.speaker.state is SpeakerState.ENROLLED
    assert added.progress.needed_s == pytest.approx(2.0)
    assert service.enroller.voices.measure_counting(added.speaker).needed_s == 0.0
    assert service.decided(added.speaker, heard(0)).model_id == "old"
    replacing = replace(request, replacing=True)
    fresh = await service.enroller.add(replacing, heard(1, speech_s=6.0, primary=NEW))
    assert fresh.speaker is not None
    assert set(fresh.speaker.voiceprints) == {"new"}


async def test_duplicates_are_found_in_either_space(store: Store) -> None:
    service = made(store, duplicates=Duplicates.REFUSE)
    await service.put(speaker("waits", voiceprint(OLD, 0)))
    await service.put(speaker("moved", voiceprint(OLD, 3), voiceprint(NEW, 1)))
    await service.put(speaker("stranded", replace(voiceprint(OLD, 2), model_id="ancient")))
    for axis, found in ((0, ("waits",)), (1, ("moved",)), (3, ()), (2, ())):
        request = EnrollmentRequest(T, f"caller {axis}")
        answer = await service.enroller.add(request, heard(axis, angle=0.0, primary=NEW))
        assert answer.duplicates == found, axis
        assert (answer.speaker is None) == bool(found), axis


async def test_an_accept_in_the_old_space_adapts_nothing(store: Store) -> None:
    service = made(store, adapting=LearningRule(0.0, 1.0))
    alice = await service.put(speaker("alice", voiceprint(OLD, 0)))
    moved = await service.call(alice, heard(0, speech_s=6.0))
    assert moved is not None
    assert len(moved.voiceprints["old"].vectors) == 1
    call = heard(0, angle=0.5, primary=NEW)
    adapted = await service.learn(moved, call, service.decided(moved, call), "another digest")
    assert adapted is not None
    assert len(adapted.voiceprints["new"].vectors) == 2
    assert adapted.voiceprints["old"] == alice.voiceprints["old"]


@pytest.fixture
async def identifier(service: Service) -> AsyncIterator[Identifier]:
    await service.put(speaker("waits", voiceprint(OLD, 0)))
    await service.put(speaker("begun", voiceprint(OLD, 1), voiceprint(NEW, 5, speech_s=2.0)))
    await service.put(speaker("moved", voiceprint(OLD, 3), voiceprint(NEW, 2)))
    await service.store.groups.create(T, Group("all", "", 0.0))
    await service.store.groups.add(T, "all", ["waits", "begun", "moved"])

    def of(contract: Contract, previous: Identifier | None = None) -> Identifier:
        return Identifier(
            service.store,
            contract,
            policy=POLICY,
            retention=RETENTION,
            succession=service.enroller.voices.succession,
            previous=previous,
        )

    async with of(OLD) as previous, of(NEW, previous) as current:
        yield current


@pytest.mark.parametrize("primary", [OLD, NEW], ids=["a call in the old space", "in the new"])
async def test_a_group_is_searched_in_both_spaces(
    identifier: Identifier, primary: Contract
) -> None:
    for axis, name, model_id in ((0, "waits", "old"), (1, "begun", "old"), (2, "moved", "new")):
        utterance = heard(axis, angle=0.0, primary=primary)
        found = await identifier.identify(T, "all", utterance, POLICY, 5)
        assert found.decision.outcome is Outcome.ACCEPTED, axis
        assert found.decision.model_id == model_id
        assert found.candidates[0].speaker_id == name
        assert found.candidates[0].model_id == model_id
        assert sorted(at.speaker_id for at in found.candidates) == ["begun", "moved", "waits"]
        (match,) = await identifier.screen(T, ["all"], utterance)
        assert (match.speaker_id, match.model_id) == (name, model_id)
    stranger = heard(3, angle=0.0, primary=primary)  # near an old voice that no longer counts
    found = await identifier.identify(T, "all", stranger, POLICY, 1)
    assert found.decision.outcome is Outcome.REJECTED
    assert await identifier.screen(T, ["all"], stranger) == ()


async def test_a_threshold_is_shared_out_among_both_spaces(identifier: Identifier) -> None:
    found = await identifier.identify(T, "all", heard(0), POLICY, 1)
    assert found.decision.threshold is not None
    assert "0.00333 for each of 3" in found.decision.threshold.description


async def test_who_moves_is_found_in_the_new_space_at_once(
    service: Service, identifier: Identifier
) -> None:
    utterance = heard(0, angle=0.05, speech_s=6.0)
    before = await identifier.identify(T, "all", utterance, POLICY, 1)
    await service.call(await service.get("waits"), utterance)
    after = await identifier.identify(T, "all", utterance, POLICY, 5)
    assert [before.candidates[0].model_id, after.candidates[0].model_id] == ["old", "new"]
    assert [at.speaker_id for at in after.candidates].count("waits") == 1


async def test_who_moves_during_a_search_is_no_candidate_of_the_old_space(
    service: Service, identifier: Identifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterance = heard(0, angle=0.05, speech_s=6.0)
    waits, read = await service.get("waits"), service.store.get_many

    async def moving_first(tenant: str, speaker_ids: Sequence[str]) -> Sequence[Speaker]:
        await service.call(waits, utterance)
        return await read(tenant, speaker_ids)

    await identifier.prepare(T, ["all"])
    monkeypatch.setattr(service.store, "get_many", moving_first)
    found = await identifier.identify(T, "all", utterance, POLICY, 5)
    assert set((await service.get("waits")).voiceprints) == {"old", "new"}
    assert ("waits", "old") not in [(at.speaker_id, at.model_id) for at in found.candidates]


async def test_everybody_is_counted_once(service: Service) -> None:
    succession = service.enroller.voices.succession
    assert await count_migrated(service.store, T, succession, RETENTION) == MigrationCounts()
    for given in (
        speaker("waits", voiceprint(OLD, 0)),
        speaker("begun", voiceprint(OLD, 0), voiceprint(NEW, 0, speech_s=2.0)),
        speaker("moved", voiceprint(OLD, 0), voiceprint(NEW, 0)),
        speaker("new", voiceprint(NEW, 0), state=SpeakerState.UNCONFIRMED),
        speaker("stranded", replace(voiceprint(OLD, 0), model_id="ancient")),
        speaker("pending", voiceprint(NEW, 0, speech_s=1.0), state=SpeakerState.PENDING),
        speaker("shy", state=SpeakerState.OPTED_OUT),
    ):
        await service.put(given)
    counted = await count_migrated(service.store, T, succession, RETENTION)
    assert counted == MigrationCounts(moved=2, waiting=2, begun=1, stranded=1)
