"""The sequential test: judged as the service judges, its error rates as promised."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import calls, encounters, sequential
from benchmarks.accuracy.calls import Caller, Plan, Step
from benchmarks.accuracy.encounters import Encounters
from benchmarks.accuracy.sequential import JudgedTrials, Verdicts
from evaluation.metrics.sides import Sides
from evaluation.scoring.measures import Measures
from evaluation.trials import manifest
from evaluation.trials.manifest import Speaker
from service.audio.quality import Quality
from service.audio.speech import VoiceActivity
from service.calls.claims import Claim
from service.calls.verification import Verifier
from service.contract import Calibration, Cohort, Contract, ScoreKind
from service.decisions.decision import Decision, Outcome
from service.decisions.policy import Policy, QualityGate, SequentialTest, ThresholdSource
from service.decisions.scoring import Scorer
from service.inference.embedder import Embedder, Utterance
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from service.store import Voiceprint

DATA = Path(__file__).parents[4] / "shared" / "data" / "manifest.csv"
CALIBRATION = Calibration(-4.0, {"cosine": 9.0}, ((0.1, 0.0), (0.01, 2.0)), "made")
CONTRACT = Contract("made", 16_000, 48_000, 24_000, 8_000, 8, calibration=CALIBRATION)
POLICY = Policy(0.01, ThresholdSource.SERVER, QualityGate(1.0, -100.0, 1.0))
TARGETS = ((0.01, 0.01), (0.05, 0.05), (0.01, 0.05))
PEOPLE = 30


def made_callers(chance: np.random.Generator, people: int = 4) -> tuple[Caller, ...]:
    """Voices as points, heard the better the longer they speak."""

    def step(voice: np.ndarray, speech_s: float) -> Step:
        heard = voice + chance.normal(scale=2 / np.sqrt(speech_s), size=8)
        return Step((heard / np.linalg.norm(heard)).astype(np.float32), speech_s, 20.0)

    callers = []
    for number in range(people):
        voice = 2 * chance.normal(size=8)
        heard = tuple(tuple(step(voice, s) for s in (1.0, 2.5, 4.0, 12.0, 13.0)) for _ in "ab")
        callers.append(Caller(Speaker("made", str(number)), step(voice, 8.0), heard))
    return tuple(callers)


def as_served(enrolled: Step, steps: tuple[Step, ...], test: SequentialTest) -> Decision:
    """What a call against a voiceprint comes to: the first conclusive decision, or the last."""
    verifier = Verifier(CONTRACT)
    speech_s = np.array([enrolled.speech_s], np.float32)
    held = Voiceprint("made", enrolled.embedding[None], speech_s, 0.0)
    claim, policy = Claim.of_one(verifier, held), replace(POLICY, sequential=test)

    def utterance(step: Step) -> Utterance:
        quality = Quality(step.speech_s, step.speech_s, step.snr_db, 0.0, -6.0)
        return Utterance(step.embedding, quality, 1)

    for step in steps[:-1]:
        decision = claim.verify_so_far(utterance(step), policy)
        if decision.conclusive:
            return decision
    return claim.verify(utterance(steps[-1]), policy)


@pytest.mark.parametrize("targets", TARGETS)
def test_a_verdict_is_what_the_service_decides(targets: tuple[float, float]) -> None:
    callers = made_callers(np.random.default_rng(1))
    met = encounters.pair_calls(callers, Scorer(CONTRACT))
    llr = CALIBRATION.bias + CALIBRATION.weights["cosine"] * met.measures.cosine
    test = SequentialTest(*targets, 10.0)
    found = sequential.decide_sequentially(JudgedTrials(met, llr, (CALIBRATION,) * 32), test)
    served = [
        as_served(caller.enrolled, steps, test)
        for caller in callers
        for other in callers
        for steps in other.calls
    ]
    assert found.accepted.tolist() == [decision.outcome is Outcome.ACCEPTED for decision in served]
    assert found.speech_s.tolist() == [decision.quality.net_speech_s for decision in served]
    assert len(set(found.speech_s)) > 2
    assert met.target.tolist() == [
        caller is other for caller in callers for other in callers for _ in other.calls
    ]


def test_scores_are_normalised_where_the_service_does() -> None:
    chance = np.random.default_rng(5)
    others = chance.normal(size=(12, 8)).astype("<f4")
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    plain = replace(CALIBRATION, bias=0.0, weights={"cosine": 1.0}, score=ScoreKind.AS_NORM)
    cohort = Cohort(others.tobytes(), 12, 5, "made")
    scorer = Scorer(replace(CONTRACT, calibration=plain, cohort=cohort))
    callers = made_callers(chance)
    met = encounters.pair_calls(callers, scorer)
    served = [
        scorer.compare(
            caller.enrolled.embedding,
            step.embedding,
            enroll_speech_s=caller.enrolled.speech_s,
            test_speech_s=step.speech_s,
            snr_db=step.snr_db,
        )
        for caller in callers
        for other in callers
        for steps in other.calls
        for step in steps
    ]
    assert np.allclose(met.measures.cosine, served, atol=1e-5)
    assert np.abs(met.measures.cosine).max() > 1


def walks(chance: np.random.Generator, *, overconfidence: float = 1.0) -> JudgedTrials:
    """Exact likelihood ratios, 24 Gaussian observations one after another, times a factor."""
    people, steps = 40, 24
    enrol, test = np.divmod(np.arange(people * people), people)
    target = enrol == test
    drift = 0.25 * np.where(target, 1, -1)[:, None]
    llr = np.cumsum(drift + np.sqrt(0.5) * chance.normal(size=(len(target), steps)), axis=1)
    first = np.arange(len(target)) * steps
    speech_s = np.tile(np.arange(1.0, steps + 1), len(target))
    blank = np.full(speech_s.shape, 20.0)
    met = Encounters(
        Measures(blank, blank, speech_s, blank),
        first,
        first + steps - 1,
        target,
        Sides(enrol, people + test, np.tile(np.arange(people), 2)),
        np.full(len(target), "made"),
    )
    return JudgedTrials(met, overconfidence * llr.ravel(), (CALIBRATION,) * len(target))


def by_bounds(judged: JudgedTrials, found: Verdicts) -> np.ndarray:
    """The trials that a bound of the test decided wrongly."""
    wrong: np.ndarray = found.early & (found.accepted != judged.encounters.target)
    return wrong


def test_exact_ratios_keep_the_promise_and_overconfident_ones_do_not() -> None:
    test = SequentialTest(0.05, 0.05, 1000.0)
    for overconfidence, kept in ((1.0, True), (3.0, False)):
        judged = walks(np.random.default_rng(0), overconfidence=overconfidence)
        wrong = by_bounds(judged, sequential.decide_sequentially(judged, test))
        match, _ = sequential.measure_errors(judged, wrong)
        assert (match.interval.low <= test.false_match_rate) is kept


def test_each_trial_is_judged_by_other_speakers() -> None:
    callers = made_callers(np.random.default_rng(2), people=24)
    met = encounters.pair_calls(callers, Scorer(CONTRACT))
    judged = sequential.judge_trials(met, terms=("cosine",))
    own = met.sides.speaker[np.stack([met.sides.enrol, met.sides.test])]
    mine = np.array([by is judged.by[0] for by in judged.by])
    touched = np.isin(own, own[:, mine]).any(axis=0)
    relabelled = replace(met, target=met.target ^ touched)
    again = sequential.judge_trials(relabelled, terms=("cosine",))
    rows = np.isin(met.trial, np.flatnonzero(mine))
    assert len({id(by) for by in judged.by}) == 15
    assert 0 < mine.sum() < len(mine)
    assert np.array_equal(judged.llr[rows], again.llr[rows])
    assert not np.allclose(judged.llr[~rows], again.llr[~rows])


@pytest.fixture(scope="module")
def real() -> JudgedTrials:
    """Call of real people, judged by calibrations of others."""
    if not (DATA.is_file() and SHIPPED_MODEL.is_file()):
        pytest.skip(f"no {DATA} or no {SHIPPED_MODEL}")
    clips = [clip for clip in manifest.read(DATA, "dev") if clip.corpus == "speechocean762"]
    people = sorted({clip.speaker for clip in clips})[:PEOPLE]
    session = Session.open(SHIPPED_MODEL, device="cpu", threads=1)

    async def heard() -> tuple[Caller, ...]:
        vad = VoiceActivity.open()
        async with Embedder(session, vad, max_batch=16, queue_limit=4096) as embedder:
            chosen = [clip for clip in clips if clip.speaker in people]
            return await calls.hear_callers(
                embedder, chosen, POLICY, Plan(enrol_s=6.0, call_s=11.0, calls=1)
            )

    return sequential.judge_trials(
        encounters.pair_calls(asyncio.run(heard()), Scorer(session.contract))
    )


@pytest.mark.parametrize("targets", TARGETS)
def test_on_real_speech_the_bounds_err_no_more_than_they_promise(
    real: JudgedTrials, targets: tuple[float, float]
) -> None:
    test = SequentialTest(*targets, 10.0)
    found = sequential.decide_sequentially(real, test)
    match, non_match = sequential.measure_errors(real, by_bounds(real, found))
    assert found.early.any()
    assert match.interval.low <= test.false_match_rate
    assert non_match.interval.low <= test.false_non_match_rate


def test_on_real_speech_looser_rates_decide_no_later(real: JudgedTrials) -> None:
    strict, loose = (
        sequential.decide_sequentially(real, SequentialTest(rate, rate, 10.0))
        for rate in (0.01, 0.05)
    )
    assert (loose.speech_s <= strict.speech_s).all()
