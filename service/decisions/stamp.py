"""Stamps: what names a decision in answers, the audit trail and events."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.decisions.decision import Decision, Outcome, Stamp


def make_decision_id() -> str:
    """Make a name for a decision, unlike any other."""
    return secrets.token_hex(16)


@dataclass(slots=True)
class DecisionStamper:
    """Stamps the decisions of one call. They share a stamp until the outcome, or who was accepted,
    changes, so that whoever acts on a decision acts once. `clock` is in seconds since the epoch."""

    speaker_id: str = ""
    clock: Callable[[], float] = time.time
    make_id: Callable[[], str] = make_decision_id
    _decided: tuple[Outcome, str] | None = None
    _stamp: Stamp | None = None

    def stamp(self, decision: Decision) -> Decision:
        """Return the decision with its stamp and the claimed speaker."""
        decided = (decision.outcome, decision.matched)
        if self._stamp is None or decided != self._decided:
            self._decided = decided
            self._stamp = Stamp(self.make_id(), self.clock(), decision.quality.total_s)
        return replace(decision, stamp=self._stamp, speaker_id=self.speaker_id)
