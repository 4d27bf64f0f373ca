"""Identification: who of a group is speaking, or that it is none of them.

    utterance -> roster, up to date -> best voices -> read again from the store -> decision

The open set (Grother and Phillips 2004): the best of N voices is accepted only if it would be
accepted with the chance of error spread over all N, so a group may grow without more strangers
being taken for a member. Who was deleted, opted out, expired or is not enrolled when a candidate
is read again is no candidate, whatever the roster held.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from service.contract import Calibration, Contract
from service.decision import (
    Costs,
    Decision,
    Outcome,
    Policy,
    Score,
    Threshold,
    bayes_threshold,
    decide,
    false_match_threshold,
    inconclusive,
    shortcomings,
)
from service.embedder import Utterance
from service.errors import FailedPrecondition, InvalidArgument
from service.quality import Quality
from service.roster import Roster, Rosters
from service.scoring import UNKNOWN_SNR_DB, Measures, log_likelihood_ratio
from service.search import Ranking
from service.store import Speaker, SpeakerState, Store, Voiceprint
from service.store.lifecycle import Retention
from service.verification import Known, Verifier

MAX_CANDIDATES = 100
MAX_SCREENED_GROUPS = 16
_SPARE = 8
_MARGIN = 2.0
_MAX_VOICES = 2_000_000


@dataclass(frozen=True, slots=True)
class Match:
    """A member of a group, compared."""

    group: str
    speaker_id: str
    score: Score


@dataclass(frozen=True, slots=True)
class Identification:
    """ACCEPTED: the first of `candidates` is speaking; they go by falling log-likelihood ratio."""

    decision: Decision
    candidates: tuple[Match, ...] = ()


class Identifier:
    """Searches groups in the space of one model. Used under `async with`.

    `policy` is for screening; `retention` says whose voice has expired.
    """

    def __init__(
        self,
        store: Store,
        contract: Contract,
        *,
        policy: Policy,
        retention: Retention,
        max_voices: int = _MAX_VOICES,
    ) -> None:
        self._store = store
        self._contract = contract
        self._policy = policy
        self._verifier = Verifier(contract)
        self._retention = retention
        self._rosters = Rosters(store, contract, max_voices=max_voices)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._rosters.close()

    async def prepare(self, tenant: str, groups: Iterable[str]) -> None:
        """Reads the groups that a stream will search; raises NotFound for one that there is not."""
        for group in dict.fromkeys(groups):
            await self._rosters.current(tenant, group)

    async def identify(
        self, tenant: str, group: str, utterance: Utterance, policy: Policy, max_candidates: int
    ) -> Identification:
        """Who of the group it is, by the policy's criterion corrected for the size of the group.

        Raises NotFound for an unknown group, FailedPrecondition when the model has no calibration.
        """
        if not 1 <= max_candidates <= MAX_CANDIDATES:
            raise InvalidArgument(f"must be 1 to {MAX_CANDIDATES}", field="max_candidates")
        roster = await self._rosters.current(tenant, group)
        quality, model_id = utterance.quality, self._contract.model_id
        policy = self._able(policy)
        threshold = threshold_among(len(roster), policy, self._calibration())
        if reasons := shortcomings(quality, policy.demands):
            return Identification(inconclusive(reasons, quality, policy.demands, model_id))
        matches = await self._matches(roster, tenant, group, utterance, max_candidates)
        if not matches:
            nobody = "no enrolled voice is in the group"
            return Identification(
                Decision(Outcome.REJECTED, model_id, nobody, threshold=threshold, quality=quality)
            )
        return Identification(decide(matches[0].score, threshold, quality, model_id), matches)

    async def screen(
        self,
        tenant: str,
        groups: Sequence[str],
        utterance: Utterance,
        policy: Policy | None = None,
    ) -> tuple[Match, ...]:
        """The members of these groups that the voice is accepted as, by falling log-likelihood
        ratio; none when the audio does not allow a decision.

        Raises as `identify` does.
        """
        names = list(dict.fromkeys(groups))
        if len(names) > MAX_SCREENED_GROUPS:
            raise InvalidArgument(f"more than {MAX_SCREENED_GROUPS} groups", field="watchlists")
        policy = self._able(policy or self._policy)
        rosters = [await self._rosters.current(tenant, group) for group in names]
        if not names or shortcomings(utterance.quality, policy.demands):
            return ()
        found: list[Match] = []
        for group, roster in zip(names, rosters, strict=True):
            threshold = threshold_among(len(roster), policy, self._calibration())
            found += await self._matches(
                roster, tenant, group, utterance, MAX_CANDIDATES, least=threshold.llr
            )
        return tuple(sorted(found, key=_falling))

    async def _matches(
        self,
        roster: Roster,
        tenant: str,
        group: str,
        utterance: Utterance,
        count: int,
        *,
        least: float = -math.inf,
    ) -> tuple[Match, ...]:
        """The `count` best who can be verified now, scored as verification would, and of those
        the ones that reach `least`; nobody far below it is read again."""
        quality = utterance.quality
        assert utterance.embedding is not None, "the policy demands what the model needs"
        heard = Known(utterance.embedding, quality.net_speech_s, quality.snr_db)
        ranking = ranking_for(self._calibration(), quality)
        asked = count + _SPARE
        while True:
            hits = await roster.best(utterance.embedding, ranking, asked)
            hits = [hit for hit in hits if hit.llr >= least - _MARGIN]
            speakers = await self._store.get_many(tenant, [hit.speaker_id for hit in hits])
            held = ((speaker.speaker_id, self._usable(speaker)) for speaker in speakers)
            matches = [
                Match(group, speaker_id, self._verifier.score(voiceprint, heard))
                for speaker_id, voiceprint in held
                if voiceprint is not None
            ]
            if len(matches) >= count or len(hits) < asked:
                reached = (match for match in matches if match.score.llr >= least)
                return tuple(sorted(reached, key=_falling)[:count])
            asked *= 4

    def _usable(self, speaker: Speaker) -> Voiceprint | None:
        if self._retention.state(speaker) is not SpeakerState.ENROLLED:
            return None
        return speaker.voiceprints.get(self._contract.model_id)

    def _able(self, policy: Policy) -> Policy:
        """The policy, demanding at least the net speech that the model needs."""
        needed_s = max(policy.demands.min_speech_s, self._contract.min_speech_s)
        return replace(policy, demands=replace(policy.demands, min_speech_s=needed_s))

    def _calibration(self) -> Calibration:
        if self._contract.calibration is None:
            raise FailedPrecondition(
                "the model has no calibration, so nobody can be identified; run "
                "`sayso-export calibrate` on it and restart the server"
            )
        return self._contract.calibration


def threshold_among(candidates: int, policy: Policy, calibration: Calibration) -> Threshold:
    """What the best of so many has to reach for the error that the policy allows of all of them.

    A target rate is divided by their number (Bonferroni). Costs: the prior is shared out among
    them, which adds the log of their number.
    """
    among = max(candidates, 1)
    if isinstance(policy.criterion, Costs):
        llr = bayes_threshold(policy.criterion) + math.log(among)
        return Threshold(llr, f"prior and costs ({policy.origin}), log {among} added")
    rate = policy.criterion / among
    source = (
        f"target false-positive identification rate {policy.criterion:.3g} ({policy.origin}), "
        f"{rate:.3g} for each of {among}"
    )
    measured = calibration.false_match
    if measured and rate >= measured[-1][0]:
        return Threshold(false_match_threshold(calibration, rate), source)
    lowest = f"the lowest measured, {measured[-1][0]:.3g}" if measured else "any measured"
    return Threshold(_unmeasured(calibration, rate), f"{source}: below {lowest}, so by log N")


def _unmeasured(calibration: Calibration, rate: float) -> float:
    """A threshold for a false-match rate below all that were measured.

    At least log(1/rate), which the ratio of a calibrated score exceeds in at most `rate` of
    non-target trials (Markov's inequality: its mean over them is 1), and at least the threshold
    of the lowest measured rate plus the log of how many times rarer this one is.
    """
    bound = -math.log(rate)
    if not calibration.false_match:
        return bound
    lowest, llr = calibration.false_match[-1]
    return max(bound, llr + math.log(lowest / rate))


def ranking_for(calibration: Calibration, quality: Quality) -> Ranking:
    """How the voices rank for a test of this quality, from the calibration at four points: it is
    linear in the cosine, in the log of the enrolment's net speech, and in their product."""
    snr_db = UNKNOWN_SNR_DB if quality.snr_db is None else quality.snr_db

    def llr(cosine: float, log_speech: float) -> float:
        measures = Measures(cosine, math.exp(log_speech), quality.net_speech_s, snr_db)
        return log_likelihood_ratio(calibration, measures)

    offset, slope = llr(0, 0), llr(1, 0) - llr(0, 0)
    return Ranking(
        offset=offset,
        offset_speech=llr(0, 1) - offset,
        slope=slope,
        slope_speech=llr(1, 1) - llr(0, 1) - slope,
    )


def _falling(match: Match) -> tuple[float, str, str]:
    return -match.score.llr, match.group, match.speaker_id
