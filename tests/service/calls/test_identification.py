import asyncio
import math
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.audio.quality import Quality
from service.calls.claims import Claim
from service.calls.identification import Identification, Identifier
from service.calls.ranking import HALF, Traits, make_ranking
from service.calls.verification import Verifier
from service.contract import Calibration, Cohort, Contract, ScoreKind
from service.decisions.decision import Outcome, Reason
from service.decisions.named_policies import MAX_WATCHLISTS
from service.decisions.policy import Costs, Policy, QualityGate, SequentialTest, ThresholdSource
from service.decisions.scoring import TERMS, Measures, l2_normalize, log_likelihood_ratio
from service.decisions.thresholds import bayes_threshold, choose_threshold_among
from service.errors import FailedPrecondition, InvalidArgument, NotFound
from service.inference.embedder import Utterance
from service.speakers.lifecycle import Retention
from service.store import Group, Speaker, SpeakerState, Store, Voiceprint, open_store, update
from tests.support.redis_server import RedisServer

DIMENSION = 32
MEASURED = ((0.1, 0.0), (0.01, 3.0), (0.001, 5.0))
CONTRACT = Contract(
    model_id="m",
    sample_rate=16000,
    window_samples=32000,
    hop_samples=16000,
    min_speech_samples=8000,
    dimension=DIMENSION,
    calibration=Calibration(
        -12.0,
        {"cosine": 20.0, "log_enrol_speech": 0.3, "cosine_log_enrol_speech": 0.5, "snr": 0.1},
        MEASURED,
        "made",
    ),
)
POLICY = Policy(0.01, ThresholdSource.REQUEST, QualityGate(1.0, 0.0, 0.1))
T = "tenant"

Vector = NDArray[np.float32]


def vectors(count: int, *, seed: int = 0) -> Vector:
    """(count, DIMENSION), of length one."""
    chance = np.random.default_rng(seed)
    return l2_normalize(chance.standard_normal((count, DIMENSION), dtype=np.float32))


VOICES = dict(zip(("alice", "bob", "carol", "dave"), vectors(4), strict=True))


def heard(vector: Vector, *, noise: float = 0.2, speech_s: float = 4.0, seed: int = 1) -> Utterance:
    chance = np.random.default_rng(seed)
    noisy = vector + noise * l2_normalize(chance.standard_normal(DIMENSION, dtype=np.float32))
    quality = Quality(speech_s, speech_s + 1, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    return Utterance(l2_normalize(noisy.astype(np.float32)), quality, windows=1)


def speaker(name: str, vector: Vector, *, tenant: str = T, speech_s: float = 6.0) -> Speaker:
    held = Voiceprint("m", vector[None, :], np.array([speech_s], np.float32), 100.0)
    return Speaker(tenant, name, SpeakerState.ENROLLED, 100.0, 100.0, voiceprints={"m": held})


async def enrol(store: Store, group: str, voices: dict[str, Vector], tenant: str = T) -> None:
    for name, vector in voices.items():
        await store.put(speaker(name, vector, tenant=tenant), expected_etag=None)
    await store.groups.create(tenant, Group(group, "", 0.0))
    if voices:
        await store.groups.add(tenant, group, list(voices))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/voices.db"
    server: RedisServer = request.getfixturevalue("redis")
    server.command("FLUSHALL")
    return server.url


@pytest.fixture
async def store(address: str) -> AsyncIterator[Store]:
    async with open_store(address, timeout_s=20.0) as opened:
        yield opened


@pytest.fixture
async def elsewhere(address: str) -> AsyncIterator[Store]:
    """The same store, as another server has it."""
    async with open_store(address, timeout_s=20.0) as opened:
        yield opened


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def identifier(store: Store, clock: Clock) -> AsyncIterator[Identifier]:
    retention = Retention(expire_after_s=5000.0, clock=clock)
    async with Identifier(store, CONTRACT, policy=POLICY, retention=retention) as made:
        yield made


async def ask(identifier: Identifier, vector: Vector, count: int = 10) -> Identification:
    return await identifier.identify(T, "callers", heard(vector), POLICY, count)


def names(found: Identification) -> list[str]:
    return [match.speaker_id for match in found.candidates]


async def test_a_member_is_found_with_the_score_that_verification_gives(
    store: Store, identifier: Identifier
) -> None:
    await enrol(store, "callers", VOICES)
    for name, vector in VOICES.items():
        found = await ask(identifier, vector)
        assert found.decision.outcome is Outcome.ACCEPTED
        assert names(found)[0] == name
        llrs = [match.score.llr for match in found.candidates]
        assert llrs == sorted(llrs, reverse=True)
        for match in found.candidates:
            held = await store.get(T, match.speaker_id)
            assert held is not None
            verified = Claim.of_one(Verifier(CONTRACT), held.voiceprints["m"]).verify(
                heard(vector), POLICY
            )
            assert verified.score == match.score
        assert found.decision.score == found.candidates[0].score
        assert found.decision.model_id == "m"


async def test_no_more_candidates_than_asked_for(store: Store, identifier: Identifier) -> None:
    await enrol(store, "callers", VOICES)
    assert len((await ask(identifier, VOICES["bob"], count=2)).candidates) == 2
    for count in (0, 101):
        with pytest.raises(InvalidArgument) as caught:
            await ask(identifier, VOICES["bob"], count=count)
        assert caught.value.field == "max_candidates"


async def test_the_best_match_is_not_taken_at_any_cost(
    store: Store, identifier: Identifier
) -> None:
    await enrol(store, "callers", {name: VOICES[name] for name in ("alice", "bob", "carol")})
    found = await ask(identifier, VOICES["dave"])
    assert found.decision.outcome is Outcome.REJECTED
    assert len(found.candidates) == 3
    assert "for each of 3" in found.decision.explanation


async def test_net_speech_of_the_enrolment_counts_in_the_order(
    store: Store, identifier: Identifier
) -> None:
    long, short = speaker("long", VOICES["alice"], speech_s=50.0), speaker("short", VOICES["alice"])
    for each in (short, long):
        await store.put(each, expected_etag=None)
    await store.groups.create(T, Group("callers", "", 0.0))
    await store.groups.add(T, "callers", ["short", "long"])
    assert names(await ask(identifier, VOICES["alice"])) == ["long", "short"]


async def test_an_empty_group_is_nobody(store: Store, identifier: Identifier) -> None:
    await enrol(store, "callers", {})
    found = await ask(identifier, VOICES["alice"])
    assert found.decision.outcome is Outcome.REJECTED
    assert found.decision.score is None
    assert found.candidates == ()


async def test_poor_audio_is_inconclusive(store: Store, identifier: Identifier) -> None:
    await enrol(store, "callers", VOICES)
    little = heard(VOICES["alice"], speech_s=0.4)
    found = await identifier.identify(T, "callers", little, POLICY, 1)
    assert found.decision.outcome is Outcome.INCONCLUSIVE
    assert found.decision.reasons == (Reason.NOT_ENOUGH_SPEECH,)
    assert found.candidates == ()
    nothing = replace(little, embedding=None)
    lenient = replace(POLICY, gate=QualityGate(0.0, 0.0, 0.1))
    assert (
        await identifier.identify(T, "callers", nothing, lenient, 1)
    ).decision.outcome is Outcome.INCONCLUSIVE
    assert await identifier.screen(T, ["callers"], nothing) == ()


async def test_an_unknown_group_is_not_found(store: Store, identifier: Identifier) -> None:
    with pytest.raises(NotFound):
        await ask(identifier, VOICES["alice"])
    with pytest.raises(NotFound):
        await identifier.screen(T, ["callers"], heard(VOICES["alice"], speech_s=0.1))
    with pytest.raises(NotFound):
        await identifier.prepare(T, ["callers"])
    await enrol(store, "callers", VOICES)
    await identifier.prepare(T, ["callers"])
    await store.groups.delete(T, "callers")
    with pytest.raises(NotFound):
        await ask(identifier, VOICES["alice"])


async def test_without_a_calibration_nobody_is_identified(store: Store) -> None:
    await enrol(store, "callers", VOICES)
    bare = replace(CONTRACT, calibration=None)
    async with Identifier(store, bare, policy=POLICY, retention=Retention()) as identifier:
        with pytest.raises(FailedPrecondition, match="sayso-export calibrate"):
            await ask(identifier, VOICES["alice"])


async def test_a_tenant_never_sees_anothers(store: Store, identifier: Identifier) -> None:
    await enrol(store, "callers", {"alice": VOICES["alice"]})
    await enrol(store, "callers", {"mallory": VOICES["alice"]}, tenant="other")
    assert names(await ask(identifier, VOICES["alice"])) == ["alice"]
    found = await identifier.identify("other", "callers", heard(VOICES["alice"]), POLICY, 10)
    assert names(found) == ["mallory"]


async def test_a_group_that_was_made_anew_has_nobody_of_the_old_one(
    store: Store, elsewhere: Store, identifier: Identifier
) -> None:
    await enrol(store, "callers", VOICES)
    await ask(identifier, VOICES["alice"])
    await elsewhere.groups.delete(T, "callers")
    await elsewhere.groups.create(T, Group("callers", "", 0.0))
    await elsewhere.groups.add(T, "callers", ["bob"])
    assert names(await ask(identifier, VOICES["alice"])) == ["bob"]


@pytest.mark.parametrize(
    "fate", ["deleted", "removed", "pending", "opted out", "unconfirmed", "other model"]
)
async def test_who_is_gone_elsewhere_no_longer_matches(
    store: Store, elsewhere: Store, identifier: Identifier, fate: str
) -> None:
    await enrol(store, "callers", VOICES)
    assert names(await ask(identifier, VOICES["alice"]))[0] == "alice"

    def change(found: Speaker | None) -> Speaker:
        assert found is not None
        match fate:
            case "pending":
                return replace(found, state=SpeakerState.PENDING)
            case "opted out":
                return replace(found, state=SpeakerState.OPTED_OUT, voiceprints={})
            case "unconfirmed":
                return replace(found, state=SpeakerState.UNCONFIRMED)
        moved = replace(found.voiceprints["m"], model_id="n")
        return replace(found, voiceprints={"n": moved})

    match fate:
        case "deleted":
            await elsewhere.delete(T, "alice")
        case "removed":
            await elsewhere.groups.remove(T, "callers", ["alice"])
        case _:
            await update(elsewhere, T, "alice", change)
    found = await ask(identifier, VOICES["alice"])
    assert sorted(names(found)) == ["bob", "carol", "dave"]
    assert found.decision.outcome is Outcome.REJECTED
    assert "for each of 3" in found.decision.explanation
    assert await identifier.screen(T, ["callers"], heard(VOICES["alice"])) == ()


async def test_a_voice_enrolled_elsewhere_is_the_one_that_matches(
    store: Store, elsewhere: Store, identifier: Identifier
) -> None:
    await enrol(store, "callers", {name: VOICES[name] for name in ("alice", "bob")})
    assert names(await ask(identifier, VOICES["carol"], count=1)) != ["carol"]
    await elsewhere.put(speaker("carol", VOICES["carol"]), expected_etag=None)
    await elsewhere.groups.add(T, "callers", ["carol"])
    assert names(await ask(identifier, VOICES["carol"]))[0] == "carol"

    def change(found: Speaker | None) -> Speaker:
        assert found is not None
        return replace(found, voiceprints=speaker("alice", VOICES["dave"]).voiceprints)

    await update(elsewhere, T, "alice", change)
    assert names(await ask(identifier, VOICES["dave"]))[0] == "alice"
    found = await ask(identifier, VOICES["alice"])
    assert found.decision.outcome is Outcome.REJECTED


async def test_the_expired_never_match_however_many_are_nearer(
    store: Store, identifier: Identifier, clock: Clock
) -> None:
    target = VOICES["alice"]
    await enrol(store, "callers", {f"old {n:02}": target for n in range(60)})
    await store.put(speaker("far", VOICES["bob"]), expected_etag=None)
    await store.groups.add(T, "callers", ["far"])
    await identifier.prepare(T, ["callers"])
    clock.now = 5090.0
    await store.touch(T, "far", "m", at=5000.0)
    clock.now = 5100.0
    found = await ask(identifier, target)
    assert names(found) == ["far"]
    assert found.decision.outcome is Outcome.REJECTED
    assert await identifier.screen(T, ["callers"], heard(target)) == ()


async def test_who_is_still_matched_does_not_expire(
    store: Store, identifier: Identifier, clock: Clock
) -> None:
    await enrol(store, "fraud", {"alice": VOICES["alice"], "bob": VOICES["bob"]})
    for _ in range(4):
        clock.now += 4000.0
        matches = await identifier.screen(T, ["fraud"], heard(VOICES["alice"]))
        assert [match.speaker_id for match in matches] == ["alice"]
    clock.now += 4000.0
    found = await identifier.identify(T, "fraud", heard(VOICES["alice"]), POLICY, 2)
    assert names(found) == ["alice"]
    clock.now += 4000.0
    assert names(await identifier.identify(T, "fraud", heard(VOICES["alice"]), POLICY, 1))


async def test_a_candidate_of_a_lax_request_is_not_used(
    store: Store, identifier: Identifier, clock: Clock
) -> None:
    await enrol(store, "fraud", {"alice": VOICES["alice"]})
    clock.now += 4000.0
    lax = replace(POLICY, criterion=Costs(0.999, 1.0, 1e-9))
    found = await identifier.identify(T, "fraud", heard(VOICES["dave"]), lax, 1)
    assert found.decision.outcome is Outcome.ACCEPTED
    clock.now += 4000.0
    assert await identifier.screen(T, ["fraud"], heard(VOICES["alice"])) == ()


async def test_the_locked_are_passed_over_in_a_search_and_not_in_a_screening(
    store: Store, clock: Clock
) -> None:
    async def locked(tenant: str, speaker_id: str) -> bool:
        return speaker_id.startswith("locked")

    target = VOICES["alice"]
    await enrol(store, "callers", {f"locked {n:02}": target for n in range(20)})
    await store.put(speaker("free", VOICES["bob"]), expected_etag=None)
    await store.groups.add(T, "callers", ["free"])
    retention = Retention(clock=clock)
    async with Identifier(
        store, CONTRACT, policy=POLICY, retention=retention, is_locked=locked
    ) as identifier:
        found = await ask(identifier, target)
        assert names(found) == ["free"]
        assert found.decision.outcome is Outcome.REJECTED
        assert len(await identifier.screen(T, ["callers"], heard(target))) == 20


async def test_searches_amid_changes_find_who_stays(
    store: Store, elsewhere: Store, identifier: Identifier
) -> None:
    others = {f"{n:02}": vector for n, vector in enumerate(vectors(30, seed=5))}
    await enrol(store, "callers", {**VOICES, **others})
    rng = random.Random(3)
    done = asyncio.Event()

    async def churn() -> None:
        for _ in range(20):
            name = rng.choice(list(others))
            await elsewhere.groups.remove(T, "callers", [name])
            await elsewhere.delete(T, name)
            await elsewhere.put(speaker(name, others[name]), expected_etag=None)
            await elsewhere.groups.add(T, "callers", [name])
        done.set()

    async def search(name: str) -> None:
        while not done.is_set():
            found = await ask(identifier, VOICES[name], count=1)
            assert names(found) == [name]
            assert found.decision.outcome is Outcome.ACCEPTED

    await asyncio.gather(churn(), *(search(name) for name in VOICES))
    for name, vector in others.items():
        assert names(await ask(identifier, vector, count=1)) == [name]


async def test_a_cancelled_search_leaves_the_roster_sound(
    store: Store, identifier: Identifier
) -> None:
    many = {f"{n:03}": vector for n, vector in enumerate(vectors(250, seed=6))}
    await enrol(store, "callers", many)
    rng = random.Random(4)
    for _ in range(10):
        search = asyncio.create_task(ask(identifier, many["007"]))
        await asyncio.sleep(rng.random() * 0.02)
        search.cancel()
        await asyncio.wait([search])
    for name in ("000", "107", "249"):
        found = await ask(identifier, many[name], count=1)
        assert names(found) == [name]
        assert "for each of 250" in found.decision.explanation


async def test_rosters_beyond_the_limit_are_read_again(store: Store) -> None:
    for group in ("first", "second", "third"):
        await enrol(store, group, {f"{group} {name}": VOICES[name] for name in VOICES})
    async with Identifier(
        store, CONTRACT, policy=POLICY, retention=Retention(), max_voices=8
    ) as identifier:
        for group in ("first", "second", "third", "first"):
            found = await identifier.identify(T, group, heard(VOICES["bob"]), POLICY, 1)
            assert names(found) == [f"{group} bob"]
        assert len(identifier._matcher._indexes._recent) == 2


async def test_screening_tells_who_reaches_the_threshold(
    store: Store, identifier: Identifier
) -> None:
    await enrol(store, "fraud", {"f-alice": VOICES["alice"], "f-bob": VOICES["bob"]})
    await enrol(store, "staff", {"s-alice": VOICES["alice"], "s-carol": VOICES["carol"]})
    matches = await identifier.screen(T, ["fraud", "staff", "fraud"], heard(VOICES["alice"]))
    assert [(match.group, match.speaker_id) for match in matches] == [
        ("fraud", "f-alice"),
        ("staff", "s-alice"),
    ]
    assert matches[0].score.llr >= choose_threshold_among(2, POLICY, calibration()).llr
    assert matches[0].score.cosine > 0.9
    assert await identifier.screen(T, ["fraud"], heard(VOICES["dave"])) == ()
    assert await identifier.screen(T, [], heard(VOICES["alice"])) == ()


async def test_screening_is_bounded(identifier: Identifier) -> None:
    many = [str(number) for number in range(MAX_WATCHLISTS + 1)]
    with pytest.raises(InvalidArgument) as caught:
        await identifier.screen(T, many, heard(VOICES["alice"]))
    assert caught.value.field == "watchlists"


async def test_a_growing_group_takes_no_more_strangers_for_members(tmp_path: Path) -> None:
    """Of 400 strangers at a target of 0.1, among 300: with the threshold that one comparison
    needs, most would be taken for somebody."""
    chance = np.random.default_rng(8)
    impostors = np.sort((vectors(400, seed=9) @ vectors(400, seed=10).T).ravel())[::-1]
    rates = (0.1, 0.01, 0.001, 0.0001)
    points = tuple((rate, float(20 * impostors[int(rate * impostors.size)])) for rate in rates)
    contract = replace(CONTRACT, calibration=Calibration(0.0, {"cosine": 20.0}, points, "made"))
    policy = replace(POLICY, criterion=0.1)
    members = {str(n): vector for n, vector in enumerate(vectors(300, seed=11))}
    strangers = l2_normalize(chance.standard_normal((400, DIMENSION), dtype=np.float32))
    async with (
        open_store(f"sqlite:///{tmp_path}/voices.db") as store,
        Identifier(store, contract, policy=policy, retention=Retention()) as identifier,
    ):
        await enrol(store, "callers", members)
        found = [
            await identifier.identify(T, "callers", heard(vector, noise=0.0), policy, 1)
            for vector in strangers
        ]
    taken = [each.decision.outcome for each in found].count(Outcome.ACCEPTED)
    assert 0.1 * 400 - 4 * 6 < taken < 0.1 * 400 + 4 * 6  # 4 standard deviations of a binomial
    alone = choose_threshold_among(1, policy, contract.calibration or calibration()).llr
    naively = sum(each.candidates[0].score.llr >= alone for each in found)
    assert naively > 390


COHORT = vectors(80, seed=20)
NORMALISED = replace(
    CONTRACT,
    calibration=Calibration(
        -4.0, {"cosine": 2.0, "cosine_log_enrol_speech": 0.2}, MEASURED, "made", ScoreKind.AS_NORM
    ),
    cohort=Cohort(COHORT.astype("<f4").tobytes(), len(COHORT), 20, "made"),
)


async def test_a_group_is_searched_by_the_normalised_score(store: Store) -> None:
    """Against verifying with everybody, voices being such that cosines would rank otherwise."""
    many = {f"{n:03}": vector for n, vector in enumerate(vectors(300, seed=21))}
    hubs = l2_normalize(vectors(60, seed=22) + 2 * COHORT[:60])  # near somebody of the cohort
    many |= {f"hub {n:02}": vector for n, vector in enumerate(hubs)}
    await enrol(store, "callers", many)
    verifier, differs = Verifier(NORMALISED), 0
    async with Identifier(store, NORMALISED, policy=POLICY, retention=Retention()) as identifier:
        for query in (*vectors(10, seed=23), *hubs[:5], *COHORT[:5]):
            call = heard(query, noise=0.6)
            found = await identifier.identify(T, "callers", call, POLICY, 5)
            scores = {
                name: Claim.of_one(verifier, speaker(name, vector).voiceprints["m"])
                .verify(call, POLICY)
                .score
                for name, vector in many.items()
            }
            ratios = {name: score.llr for name, score in scores.items() if score is not None}
            expected = sorted(many, key=lambda name: -ratios[name])[:5]
            assert names(found) == expected
            assert [match.score.llr for match in found.candidates] == [ratios[n] for n in expected]
            assert call.embedding is not None
            by_cosine = sorted(many, key=lambda name: -float(many[name] @ call.embedding))[:5]
            differs += by_cosine != expected
    assert differs > 5, "or the cohort would have made no difference"


async def test_a_sequential_identification_waits_for_evidence(
    store: Store, identifier: Identifier
) -> None:
    await enrol(store, "callers", VOICES)
    test = SequentialTest(0.01, 0.01, max_speech_s=10.0)
    policy = replace(POLICY, sequential=test)

    async def ask(vector: Vector, **changes: float) -> Identification:
        utterance = heard(vector, **changes)  # type: ignore[arg-type]
        return await identifier.identify_so_far(T, "callers", utterance, policy, 1)

    sure = await ask(VOICES["alice"])
    assert sure.decision.outcome is Outcome.ACCEPTED
    assert sure.decision.threshold is not None
    assert sure.decision.threshold.llr == pytest.approx(math.log(0.99 / (0.01 / 4)))
    unlike = await ask(vectors(1, seed=31)[0])
    assert unlike.decision.outcome is Outcome.REJECTED
    for noise in np.arange(0.5, 2.0, 0.02):
        between = await ask(VOICES["alice"], noise=noise)
        if between.decision.outcome is Outcome.INCONCLUSIVE:
            break
    assert between.decision.reasons == (Reason.UNDECIDED,)
    assert between.candidates
    ended = await ask(VOICES["alice"], speech_s=10.0)
    assert ended.decision.threshold is not None
    assert "identification rate" in ended.decision.threshold.description
    whole = await identifier.identify(T, "callers", heard(VOICES["alice"]), policy, 1)
    assert "identification rate" in whole.decision.explanation


def calibration() -> Calibration:
    assert CONTRACT.calibration is not None
    return CONTRACT.calibration


def test_one_candidate_has_the_threshold_of_verification() -> None:
    assert choose_threshold_among(1, POLICY, calibration()).llr == pytest.approx(3.0)


def test_a_target_rate_is_shared_among_the_candidates() -> None:
    made = choose_threshold_among(10, POLICY, calibration())
    assert made.llr == pytest.approx(5.0)
    assert "identification rate 0.01 (request), 0.001 for each of 10" in made.description
    assert "below" not in made.description


def test_above_what_was_measured_the_highest_rate_holds_and_is_named() -> None:
    made = choose_threshold_among(1, replace(POLICY, criterion=0.5), calibration())
    assert made.llr == pytest.approx(0.0)
    assert "above the highest measured, 0.1, so by that" in made.description


def test_costs_add_the_log_of_the_number() -> None:
    costs = Costs(0.01, 10.0, 1.0)
    made = choose_threshold_among(50, replace(POLICY, criterion=costs), calibration())
    assert made.llr == pytest.approx(bayes_threshold(costs) + math.log(50))
    assert "log 50 added" in made.description


def test_below_what_was_measured_the_log_rule_holds_and_is_named() -> None:
    made = choose_threshold_among(1000, POLICY, calibration())
    assert made.llr == pytest.approx(max(math.log(1e5), 5.0 + math.log(100)))
    assert "below the lowest measured, 0.001, so by log N" in made.description
    overconfident = replace(calibration(), false_match=((0.1, -9.0), (0.001, -8.0)))
    assert choose_threshold_among(1000, POLICY, overconfident).llr == pytest.approx(math.log(1e5))
    unmeasured = replace(calibration(), false_match=())
    assert choose_threshold_among(1, POLICY, unmeasured).llr == pytest.approx(math.log(100))
    assert "below any measured" in choose_threshold_among(1, POLICY, unmeasured).description


@pytest.mark.parametrize("points", [MEASURED, MEASURED[:1], ()])
def test_the_threshold_never_falls_as_a_group_grows(
    points: Sequence[tuple[float, float]],
) -> None:
    measured = replace(calibration(), false_match=tuple(points))
    llrs = [choose_threshold_among(n, POLICY, measured).llr for n in range(1, 3000)]
    assert llrs == sorted(llrs)


@pytest.mark.parametrize("term", TERMS)
def test_the_ranking_is_the_calibration(term: str) -> None:
    """Whatever a calibration weighs, or the roster would be searched by another score."""
    weighed = Calibration(-2.0, {"cosine": 3.0, term: 1.7}, (), "made")
    quality = Quality(2.5, 3.0, snr_db=7.0, clipping=0.0, peak_dbfs=-3.0)
    ranking = make_ranking(weighed, quality)
    for cosine in (-0.5, 0.1, 0.9):
        for enrol_s in (0.1, 0.25, 3.0, 60.0, 500.0):
            measures = Measures(cosine, enrol_s, quality.net_speech_s, 7.0)
            log_speech = TERMS["log_enrol_speech"](measures)
            traits = Traits(np.array([[log_speech], [HALF.gain], [HALF.shift]], "f4"))
            (llr,) = ranking.compute_llrs(np.array([cosine], "f4"), traits)
            assert llr == pytest.approx(log_likelihood_ratio(weighed, measures), abs=1e-4)
