"""Identification: who of a group is speaking, or that it is none of them.

    utterance -> group index, up to date -> best voices -> read again from the store -> decision

The open set (Grother and Phillips 2004): the best of N voices is accepted only if it would be
accepted with the chance of error spread over all N, so a group may grow without more strangers
being taken for a member. Every candidate is read again from the store: one that was deleted, opted
out, expired or is not enrolled is dropped, whatever the index says.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

from service.audio.quality import Quality
from service.calls.group_index import GroupIndex, GroupIndexes, scale_of
from service.calls.search import Ranking, Scale, Vector
from service.calls.verification import ProbeEmbedding, Verifier
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
from service.speakers.voiceprints import ModelSuccession
from service.store import Speaker, SpeakerState, Store, Voiceprint
from service.store.lifecycle import Retention

MAX_CANDIDATES = 100
MAX_SCREENED_GROUPS = 16
_SPARE = 8
_MARGIN = 2.0
_MAX_VOICES = 2_000_000

log = logging.getLogger(__name__)


IsLocked: TypeAlias = Callable[[str, str], Awaitable[bool]]
"""Whether failed verifications have locked a tenant's speaker."""


@dataclass(frozen=True, slots=True)
class Match:
    """A member of a group, compared with the model `model_id`."""

    group: str
    speaker_id: str
    score: Score
    model_id: str = ""
    use_noted: bool = field(default=True, compare=False)  # recently enough, in the store


@dataclass(frozen=True, slots=True)
class Identification:
    """ACCEPTED: the first of `candidates` is speaking; they go by falling log-likelihood ratio."""

    decision: Decision
    candidates: tuple[Match, ...] = ()


class Identifier:
    """Searches groups with one model. Used under `async with`.

    `policy` is the server's own; `retention` says whose voice has expired. During an upgrade,
    speakers not yet migrated are searched with the `previous` model's identifier, and the results
    of both are ranked by llr; `succession` says with which model a speaker is compared. A locked
    speaker is not identified.
    """

    def __init__(
        self,
        store: Store,
        contract: Contract,
        *,
        policy: Policy,
        retention: Retention,
        max_voices: int = _MAX_VOICES,
        succession: ModelSuccession | None = None,
        previous: "Identifier | None" = None,
        is_locked: IsLocked | None = None,
    ) -> None:
        self._is_locked = is_locked
        self._succession = succession or ModelSuccession((contract.model_id,))
        self._identifiers = (self, *filter(None, [previous]))
        self._store = store
        self._contract = contract
        self._policy = policy
        self._verifier = Verifier(contract)
        self._retention = retention
        self._indexes = GroupIndexes(store, contract, self._succession, max_voices=max_voices)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._indexes.close()

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
        return await self._identify(tenant, group, utterance, policy, max_candidates, None)

    async def identify_so_far(
        self, tenant: str, group: str, utterance: Utterance, policy: Policy, max_candidates: int
    ) -> Identification:
        """As `identify` while more speech may come: sequential if the policy says so, with its
        false-match rate shared out among the group."""
        test = policy.sequential
        ended = test is None or utterance.quality.net_speech_s >= test.max_speech_s
        return await self._identify(
            tenant, group, utterance, policy, max_candidates, None if ended else test
        )

    async def _identify(
        self,
        tenant: str,
        group: str,
        utterance: Utterance,
        policy: Policy,
        max_candidates: int,
        test: SequentialTest | None,
    ) -> Identification:
        count = check_candidates(max_candidates)
        policy = self._require_speech(policy)
        indexes = await self._current(tenant, group)
        voices = sum(map(len, indexes))
        results = [
            await identifier._search(index, voices, tenant, group, utterance, policy, count, test)
            for identifier, index in zip(self._identifiers, indexes, strict=True)
        ]
        return _merge(results, count)

    async def _search(
        self,
        index: GroupIndex,
        voices: int,
        tenant: str,
        group: str,
        utterance: Utterance,
        policy: Policy,
        count: int,
        test: SequentialTest | None,
    ) -> Identification:
        """With this model only, at the error rate that the policy allows for all `voices`."""
        quality, model_id = utterance.quality, self._contract.model_id
        threshold = threshold_among(voices, policy, self._calibration())
        if reasons := shortcomings(quality, policy.gate):
            return Identification(inconclusive(reasons, quality, policy.gate, model_id))
        matches = await self._matches(
            index, tenant, group, utterance, count, is_locked=self._is_locked
        )
        if not matches:
            nobody = "no enrolled voice is in the group"
            return Identification(
                Decision(Outcome.REJECTED, model_id, nobody, threshold=threshold, quality=quality)
            )
        score, own = matches[0].score, threshold_among(voices, self._policy, self._calibration())
        if score.llr >= own.llr and not shortcomings(quality, self._policy.gate):
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
        ratio; none if the audio does not allow a decision. By the server's own policy, whatever a
        request asked: a strict one would hide matches. A match is a use of the voice.

        Raises as `identify` does.
        """
        names = list(dict.fromkeys(groups))
        if len(names) > MAX_SCREENED_GROUPS:
            raise InvalidArgument(f"more than {MAX_SCREENED_GROUPS} groups", field="watchlists")
        policy = self._require_speech(self._policy)
        indexes = [await self._current(tenant, group) for group in names]
        if not names or shortcomings(utterance.quality, policy.gate):
            return ()
        matches: list[Match] = []
        for group, of_group in zip(names, indexes, strict=True):
            voices = sum(map(len, of_group))
            for identifier, index in zip(self._identifiers, of_group, strict=True):
                threshold = threshold_among(voices, policy, identifier._calibration())
                matches += await identifier._matches(
                    index, tenant, group, utterance, MAX_CANDIDATES, min_llr=threshold.llr
                )
        await self._note_use(tenant, matches)
        return tuple(sorted(matches, key=_by_falling_llr))

    async def _note_use(self, tenant: str, matches: Iterable[Match]) -> None:
        """Keeps voices from expiring that are still being matched; a store that is full or away by
        now takes no match back."""
        try:
            for match in matches:
                if not match.use_noted:
                    at = self._retention.clock()
                    await self._store.touch(tenant, match.speaker_id, match.model_id, at=at)
        except Unavailable as error:
            log.warning("a match was not noted as use: %s", error)

    async def _current(self, tenant: str, group: str) -> list[GroupIndex]:
        """The group's index of each model."""
        return [await one._indexes.current(tenant, group) for one in self._identifiers]

    async def _matches(
        self,
        index: GroupIndex,
        tenant: str,
        group: str,
        utterance: Utterance,
        count: int,
        *,
        min_llr: float = -math.inf,
        is_locked: IsLocked | None = None,
    ) -> tuple[Match, ...]:
        """The `count` best who can be verified now and are not locked, scored as in verification,
        and of those the ones that reach `min_llr`; nobody far below it is read again."""
        quality, model_id = utterance.quality, self._contract.model_id
        embedding = (utterance.within(model_id) if utterance.also else utterance).embedding
        assert embedding is not None, "the policy demands what the model needs"
        probe = ProbeEmbedding(embedding, quality.net_speech_s, quality.snr_db)
        ranking = ranking_for(self._calibration(), quality, self._scale(embedding))
        limit = count + _SPARE
        while True:
            hits = await index.best(embedding, ranking, limit)
            hits = [hit for hit in hits if hit.llr >= min_llr - _MARGIN]
            speakers = await self._store.get_many(tenant, [hit.speaker_id for hit in hits])
            matches = [
                Match(
                    *(group, speaker.speaker_id, self._verifier.score(voiceprint, probe), model_id),
                    use_noted=voiceprint.noted(self._retention.clock()),
                )
                for speaker in speakers
                if (voiceprint := self._usable(speaker)) is not None
            ]
            good = (match for match in matches if match.score.llr >= min_llr)
            best = await _first_unlocked(
                tenant, sorted(good, key=_by_falling_llr), count, is_locked
            )
            if len(best) >= count or len(hits) < limit:
                return best
            limit *= 4

    def _scale(self, embedding: Vector) -> Scale | None:
        """Of an embedding `(dim,)`, if scores are normalized."""
        scorer = self._verifier.scorer
        return scale_of(scorer.statistics(embedding)) if scorer.normalizes else None

    def _usable(self, speaker: Speaker) -> Voiceprint | None:
        if self._retention.state(speaker) is not SpeakerState.ENROLLED:
            return None
        voiceprint = self._succession.select(speaker.voiceprints)
        of_this_model = voiceprint and voiceprint.model_id == self._contract.model_id
        return voiceprint if of_this_model else None

    def _require_speech(self, policy: Policy) -> Policy:
        """The policy, demanding at least the net speech that every model needs."""
        needed_s = max(one._contract.min_speech_s for one in self._identifiers)
        needed_s = max(policy.gate.min_speech_s, needed_s)
        return replace(policy, gate=replace(policy.gate, min_speech_s=needed_s))

    def _calibration(self) -> Calibration:
        if self._contract.calibration is None:
            raise FailedPrecondition(
                "the model has no calibration, so nobody can be identified; run "
                "`sayso-export calibrate` on it and restart the server"
            )
        return self._contract.calibration


def _merge(results: Sequence[Identification], count: int) -> Identification:
    """The results of several models as one: the decision is on the candidate with the best llr."""
    if len(results) == 1:
        return results[0]
    best = max(
        results, key=lambda one: max((at.score.llr for at in one.candidates), default=-math.inf)
    )
    ranked = sorted((match for one in results for match in one.candidates), key=_by_falling_llr)
    return Identification(best.decision, tuple(ranked[:count]))


def check_candidates(count: int, *, field: str = "max_candidates") -> int:
    """The count, if a search can return as many; raises `InvalidArgument` otherwise."""
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
    linear in the score, in the log of the enrollment's net speech, and in their product. `scale` is
    the test's, if scores are normalized."""
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
    tenant: str, matches: Sequence[Match], count: int, is_locked: IsLocked | None
) -> tuple[Match, ...]:
    """The first `count` that are not locked: naming a speaker as a candidate answers a guess, as a
    verification does."""
    if is_locked is None:
        return tuple(matches[:count])
    best: list[Match] = []
    for match in matches:
        if len(best) == count:
            break
        if not await is_locked(tenant, match.speaker_id):
            best.append(match)
    return tuple(best)


def _by_falling_llr(match: Match) -> tuple[float, str, str]:
    return -match.score.llr, match.group, match.speaker_id
