"""The events of one call: its decision, what it matches, its end.

answer ──> first conclusive outcome ─> decision.reached
       ├─> another outcome ──────────> decision.changed
       └─> members not matched before ─> watchlist.matched
last answer, or the caller leaves ────> call.ended
"""

from service.audit import Origin
from service.calls.screening import NO_FINDINGS, Findings
from service.decisions.decision import Decision, Outcome
from service.events import Event, EventType, Publish


class CallEvents:
    """Publishes the events of the call that `origin` describes."""

    def __init__(self, origin: Origin, publish: Publish) -> None:
        self._origin = origin
        self._publish = publish
        self._outcome: Outcome | None = None
        self._matched: frozenset[tuple[str, str]] = frozenset()
        self._latest: tuple[Decision, Findings] | None = None
        self._ended = False

    async def note(self, decision: Decision, findings: Findings = NO_FINDINGS) -> None:
        """Publish what is new in an answer; to be awaited before it is sent."""
        await self._publish(self._origin.tenant, *self._list_news(decision, findings))

    async def end(self, decision: Decision, findings: Findings = NO_FINDINGS) -> None:
        """Publish what is new in the last answer, and the end of the call."""
        news = self._list_news(decision, findings)
        self._ended = True
        ended = self._make(EventType.CALL_ENDED, decision, findings)
        await self._publish(self._origin.tenant, *news, ended)

    async def abandon(self) -> None:
        """Publish the end of a call that was answered but did not come to its last answer."""
        if self._latest is not None and not self._ended:
            await self.end(*self._latest)

    def _list_news(self, decision: Decision, findings: Findings) -> list[Event]:
        self._latest = decision, findings
        news = []
        _, about = _choose_subject(decision, findings)
        if about.conclusive and about.outcome is not self._outcome:
            changed = self._outcome is not None
            kind = EventType.DECISION_CHANGED if changed else EventType.DECISION_REACHED
            news.append(self._make(kind, decision, findings))
            self._outcome = about.outcome
        matched = frozenset((match.group, match.speaker_id) for match in findings.matches)
        if matched - self._matched:
            news.append(self._make(EventType.WATCHLIST_MATCHED, decision, findings))
        self._matched |= matched
        return news

    def _make(self, kind: EventType, decision: Decision, findings: Findings) -> Event:
        speaker_id, about = _choose_subject(decision, findings)
        return Event(
            kind,
            speaker_id,
            self._origin.request_id,
            decision=about,
            matches=findings.matches,
        )


def _choose_subject(decision: Decision, findings: Findings) -> tuple[str, Decision]:
    """Return whom a call is about, and the decision on that: who is claimed, of several the one who
    was accepted; or if nobody is, who was identified."""
    search = findings.identification
    if decision.speaker_id or search is None:
        return decision.matched or decision.speaker_id, decision
    accepted = search.decision.outcome is Outcome.ACCEPTED
    return (search.candidates[0].speaker_id if accepted else ""), search.decision
