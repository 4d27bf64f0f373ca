"""Identification: who of a group is speaking, or that it is none of them.

    utterance -> roster, up to date -> best voices -> read again from the store -> decision

The open set (Grother and Phillips 2004): the best of N voices is accepted only if it would be
accepted with the chance of error spread over all N, so a group may grow without more strangers
being taken for a member. Who was deleted, opted out, expired or is not enrolled when a candidate
is read again is no candidate, whatever the roster held.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

from service.audio.quality import Quality
from service.calls.group_index import Roster, Rosters, scale_of
from service.calls.search import Ranking, Scale, Vector
from service.calls.verification import Known, Verifier
from service.contract import Calibration, Contract
from service.decisions.decision import (
    Costs,
    Decision,
    Outcome,
    Policy,
    Score,
    SequentialTest,
    Threshold,
    band_of,
    bayes_threshold,
    careful_threshold,
    decide,
    decide_early,
    higher,
    inconclusive,
    shortcomings,
)
from service.decisions.scoring import UNKNOWN_SNR_DB, Measures, log_likelihood_ratio
from service.errors import FailedPrecondition, InvalidArgument, Unavailable
from service.inference.embedder import Utterance
from service.speakers.succession import Succession
from service.store import Speaker, SpeakerState, Store, Voiceprint
from service.store.lifecycle import Retention

MAX_CANDIDATES = 100
MAX_SCREENED_GROUPS = 16
_SPARE = 8
_MARGIN = 2.0
_MAX_VOICES = 2_000_000

log = logging.getLogger(__name__)


Locked: TypeAlias = Callable[[str, str], Awaitable[bool]]
"""Whether failed verifications have locked a tenant's speaker."""


@dataclass(frozen=True, slots=True)
class Match:
    """A member of a group, compared in the space of a model."""

    group: str
    speaker_id: str
    score: Score
    model_id: str = ""
    noted: bool = field(default=True, compare=False)  # of use: the store knows of one by now


@dataclass(frozen=True, slots=True)
class Identification:
    """ACCEPTED: the first of `candidates` is speaking; they go by falling log-likelihood ratio."""

    decision: Decision
    candidates: tuple[Match, ...] = ()


class Identifier:
    """Searches groups in the space of one model. Used under `async with`.

    `policy` is the server's own; `retention` says whose voice has expired. With the previous
    model's `beside` it, those who have no voice of this model yet are searched in that one's space,
    and the members of both spaces are ranked by their log-likelihood ratios; `succession` says in
    which of them a speaker is compared. Who is `locked` is not identified.
    """

    def __init__(
        self,
        store: Store,
        contract: Contract,
        *,
        policy: Policy,
        retention: Retention,
        max_voices: int = _MAX_VOICES,
        succession: Succession | None = None,
        beside: "Identifier | None" = None,
        locked: Locked | None = None,
    ) -> None:
        self._locked = locked
        self._succession = succession or Succession((contract.model_id,))
        self._spaces = (self, *filter(None, [beside]))
        self._store = store
        self._contract = contract
        self._policy = policy
        self._verifier = Verifier(contract)
        self._retention = retention
        self._rosters = Rosters(store, contract, self._succession, max_voices=max_voices)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._rosters.close()

    async def prepare(self, tenant: str, groups: Iterable[str]) -> None:
        """Reads the groups that a stream will search; raises NotFound for one that there is not."""
        for group in dict.fromkeys(groups):
            await self._current(tenant, group)

    async def identify(
        self, tenant: str, group: str, utterance: Utterance, policy: Policy, max_candidates: int
    ) -> Identification:
        """Who of the group it is, by the policy's criterion corrected for the size of the group.

        Raises NotFound for an unknown group, FailedPrecondition when the model has no calibration.
        """
        return await self._identified(tenant, group, utterance, policy, max_candidates, None)

    async def so_far(
        self, tenant: str, group: str, utterance: Utterance, policy: Policy, max_candidates: int
    ) -> Identification:
        """As `identify` while more speech may come: sequential where the policy says so, with its
        false-match rate shared out among the group."""
        test = policy.sequential
        ended = test is None or utterance.quality.net_speech_s >= test.max_speech_s
        return await self._identified(
            tenant, group, utterance, policy, max_candidates, None if ended else test
        )

    async def _identified(
        self,
        tenant: str,
        group: str,
        utterance: Utterance,
        policy: Policy,
        max_candidates: int,
        test: SequentialTest | None,
    ) -> Identification:
        count = candidates(max_candidates)
        policy = self._able(policy)
        rosters = await self._current(tenant, group)
        voices = sum(map(len, rosters))
        found = [
            await space._found(roster, voices, tenant, group, utterance, policy, count, test)
            for space, roster in zip(self._spaces, rosters, strict=True)
        ]
        return _nearest(found, count)

    async def _found(
        self,
        roster: Roster,
        voices: int,
        tenant: str,
        group: str,
        utterance: Utterance,
        policy: Policy,
        count: int,
        test: SequentialTest | None,
    ) -> Identification:
        """In this space only, with the errors that the policy allows of `voices` in all spaces."""
        quality, model_id = utterance.quality, self._contract.model_id
        threshold = threshold_among(voices, policy, self._calibration())
        if reasons := shortcomings(quality, policy.demands):
            return Identification(inconclusive(reasons, quality, policy.demands, model_id))
        matches = await self._matches(roster, tenant, group, utterance, count, locked=self._locked)
        if not matches:
            nobody = "no enrolled voice is in the group"
            return Identification(
                Decision(Outcome.REJECTED, model_id, nobody, threshold=threshold, quality=quality)
            )
        score, own = matches[0].score, threshold_among(voices, self._policy, self._calibration())
        if score.llr >= own.llr and not shortcomings(quality, self._policy.demands):
            await self._note_use(tenant, matches[:1])
        if test is not None:
            shared = replace(test, false_match_rate=test.false_match_rate / max(voices, 1))
            blind = policy.at_least is not None  # no lock bounds how often a lower bound is asked
            decision = decide_early(
                *(score, shared, quality, model_id), least=own if blind else None, rejects=not blind
            )
        else:
            decision = decide(score, threshold, quality, model_id)
        return Identification(replace(decision, band=band_of(score, own)), matches)

    async def screen(
        self,
        tenant: str,
        groups: Sequence[str],
        utterance: Utterance,
    ) -> tuple[Match, ...]:
        """The members of these groups that the voice is accepted as, by falling log-likelihood
        ratio; none when the audio does not allow a decision. By the server's own policy, whatever a
        request asked: a strict one would hide matches. A match is a use of the voice.

        Raises as `identify` does.
        """
        names = list(dict.fromkeys(groups))
        if len(names) > MAX_SCREENED_GROUPS:
            raise InvalidArgument(f"more than {MAX_SCREENED_GROUPS} groups", field="watchlists")
        policy = self._able(self._policy)
        rosters = [await self._current(tenant, group) for group in names]
        if not names or shortcomings(utterance.quality, policy.demands):
            return ()
        found: list[Match] = []
        for group, of_spaces in zip(names, rosters, strict=True):
            voices = sum(map(len, of_spaces))
            for space, roster in zip(self._spaces, of_spaces, strict=True):
                threshold = threshold_among(voices, policy, space._calibration())
                found += await space._matches(
                    roster, tenant, group, utterance, MAX_CANDIDATES, least=threshold.llr
                )
        await self._note_use(tenant, found)
        return tuple(sorted(found, key=_falling))

    async def _note_use(self, tenant: str, matches: Iterable[Match]) -> None:
        """Keeps voices from expiring that are still being matched; that the store is full or away
        by now takes no match back."""
        try:
            for match in matches:
                if not match.noted:
                    at = self._retention.clock()
                    await self._store.touch(tenant, match.speaker_id, match.model_id, at=at)
        except Unavailable as error:
            log.warning("a match was not noted as use: %s", error)

    async def _current(self, tenant: str, group: str) -> list[Roster]:
        """The roster of the group in each space."""
        return [await space._rosters.current(tenant, group) for space in self._spaces]

    async def _matches(
        self,
        roster: Roster,
        tenant: str,
        group: str,
        utterance: Utterance,
        count: int,
        *,
        least: float = -math.inf,
        locked: Locked | None = None,
    ) -> tuple[Match, ...]:
        """The `count` best who can be verified now and are not `locked`, scored as verification
        would, and of those the ones that reach `least`; nobody far below it is read again."""
        quality, model_id = utterance.quality, self._contract.model_id
        embedding = (utterance.within(model_id) if utterance.also else utterance).embedding
        assert embedding is not None, "the policy demands what the model needs"
        heard = Known(embedding, quality.net_speech_s, quality.snr_db)
        ranking = ranking_for(self._calibration(), quality, self._scale(embedding))
        asked = count + _SPARE
        while True:
            hits = await roster.best(embedding, ranking, asked)
            hits = [hit for hit in hits if hit.llr >= least - _MARGIN]
            speakers = await self._store.get_many(tenant, [hit.speaker_id for hit in hits])
            held = ((speaker.speaker_id, self._usable(speaker)) for speaker in speakers)
            matches = [
                Match(
                    *(group, speaker_id, self._verifier.score(voiceprint, heard), model_id),
                    noted=voiceprint.noted(self._retention.clock()),
                )
                for speaker_id, voiceprint in held
                if voiceprint is not None
            ]
            reached = sorted((at for at in matches if at.score.llr >= least), key=_falling)
            best = await _first_unlocked(tenant, reached, count, locked)
            if len(best) >= count or len(hits) < asked:
                return best
            asked *= 4

    def _scale(self, heard: Vector) -> Scale | None:
        """Of an embedding `(dim,)`, where scores are normalised."""
        scorer = self._verifier.scorer
        return scale_of(scorer.standing(heard)) if scorer.normalises else None

    def _usable(self, speaker: Speaker) -> Voiceprint | None:
        if self._retention.state(speaker) is not SpeakerState.ENROLLED:
            return None
        held = self._succession.in_use(speaker.voiceprints)
        return held if held and held.model_id == self._contract.model_id else None

    def _able(self, policy: Policy) -> Policy:
        """The policy, demanding at least the net speech that every model needs."""
        needed_s = max(space._contract.min_speech_s for space in self._spaces)
        needed_s = max(policy.demands.min_speech_s, needed_s)
        return replace(policy, demands=replace(policy.demands, min_speech_s=needed_s))

    def _calibration(self) -> Calibration:
        if self._contract.calibration is None:
            raise FailedPrecondition(
                "the model has no calibration, so nobody can be identified; run "
                "`sayso-export calibrate` on it and restart the server"
            )
        return self._contract.calibration


def _nearest(found: Sequence[Identification], count: int) -> Identification:
    """One of several spaces: the decision is on the candidate that comes nearest."""
    first = max(
        found, key=lambda each: max((at.score.llr for at in each.candidates), default=-math.inf)
    )
    ranked = sorted((match for each in found for match in each.candidates), key=_falling)
    return Identification(first.decision, tuple(ranked[:count]))


def candidates(count: int, *, field: str = "max_candidates") -> int:
    """As many as a search gives; raises `InvalidArgument` for any other number."""
    if not 1 <= count <= MAX_CANDIDATES:
        raise InvalidArgument(f"must be 1 to {MAX_CANDIDATES}", field=field)
    return count


def threshold_among(voices: int, policy: Policy, calibration: Calibration) -> Threshold:
    """What the best of so many has to reach for the error that the policy allows of all of them.

    A target rate is divided by their number (Bonferroni). Costs: the prior is shared out among
    them, which adds the log of their number.
    """
    asked = _threshold_among(voices, policy, calibration)
    if policy.at_least is None:
        return asked
    return higher(asked, _threshold_among(voices, policy.at_least, calibration))


def _threshold_among(voices: int, policy: Policy, calibration: Calibration) -> Threshold:
    among = max(voices, 1)
    if isinstance(policy.criterion, Costs):
        llr = bayes_threshold(policy.criterion) + math.log(among)
        return Threshold(llr, f"prior and costs ({policy.origin}), log {among} added")
    rate = policy.criterion / among
    source = (
        f"target false-positive identification rate {policy.criterion:.3g} ({policy.origin}), "
        f"{rate:.3g} for each of {among}"
    )
    return Threshold(careful_threshold(calibration, rate), source + _beyond(calibration, rate))


def _beyond(calibration: Calibration, rate: float) -> str:
    """Says so where a rate is none of those that were measured."""
    points = calibration.false_match
    if not points:
        return ": below any measured, so by log N"
    (highest, _), (lowest, _) = points[0], points[-1]
    if rate < lowest:
        return f": below the lowest measured, {lowest:.3g}, so by log N"
    return f": above the highest measured, {highest:.3g}, so by that" if rate > highest else ""


def ranking_for(calibration: Calibration, quality: Quality, scale: Scale | None = None) -> Ranking:
    """How the voices rank for a test of this quality, from the calibration at four points: it is
    linear in the score, in the log of the enrolment's net speech, and in their product. `scale` is
    the test's, where scores are normalised."""
    snr_db = UNKNOWN_SNR_DB if quality.snr_db is None else quality.snr_db

    def llr(score: float, log_speech: float) -> float:
        measures = Measures(score, math.exp(log_speech), quality.net_speech_s, snr_db)
        return log_likelihood_ratio(calibration, measures)

    offset, slope = llr(0, 0), llr(1, 0) - llr(0, 0)
    return Ranking(
        offset=offset,
        offset_speech=llr(0, 1) - offset,
        slope=slope,
        slope_speech=llr(1, 1) - llr(0, 1) - slope,
        scale=scale,
    )


async def _first_unlocked(
    tenant: str, matches: Sequence[Match], count: int, locked: Locked | None
) -> tuple[Match, ...]:
    """The first `count`; who is told as a candidate is guessed at as in a verification, so who is
    locked is passed over, as is one who opted out."""
    if locked is None:
        return tuple(matches[:count])
    best: list[Match] = []
    for match in matches:
        if len(best) == count:
            break
        if not await locked(tenant, match.speaker_id):
            best.append(match)
    return tuple(best)


def _falling(match: Match) -> tuple[float, str, str]:
    return -match.score.llr, match.group, match.speaker_id
