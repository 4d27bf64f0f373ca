"""A decision as a JSON object, the same for every platform that takes one."""

from collections.abc import Awaitable, Callable
from typing import Any

from sayso import Decision

Send = Callable[[dict[str, Any]], Awaitable[None]]


def describe(decision: Decision, call_id: str) -> dict[str, Any]:
    """The fields of a decision that a platform, or the application behind it, acts on; scores only
    if the credential may see them."""
    fields: dict[str, Any] = {
        "call_id": call_id,
        "speaker_id": decision.speaker_id,
        "matched_speaker_id": decision.matched_speaker_id,
        "outcome": decision.outcome,
        "reasons": list(decision.reasons),
        "explanation": decision.explanation,
        "audio_s": round(decision.audio_s, 2),
        "net_speech_s": round(decision.net_speech_s, 2),
        "speech_needed_s": round(decision.speech_needed_s, 2),
        "snr_db": decision.snr_db,
        "clipping_ratio": decision.clipping_ratio,
        "peak_dbfs": decision.peak_dbfs,
        "threshold_description": decision.threshold_description,
        "decision_id": decision.decision_id,
        "model_id": decision.model_id,
        "watchlists": sorted({match.group for match in decision.watchlist_matches}),
    }
    scores = {"llr": decision.llr, "threshold_llr": decision.threshold_llr, "band": decision.band}
    return fields | {name: value for name, value in scores.items() if value is not None}


class Changes:
    """Passes on a decision only if its outcome, or who is on a watchlist, is new."""

    def __init__(self, send: Send, call_id: str) -> None:
        self._send = send
        self._call_id = call_id
        self._sent: object = None

    async def __call__(self, decision: Decision) -> None:
        state = decision.outcome, decision.watchlist_matches
        if state != self._sent:
            self._sent = state
            await self._send(describe(decision, self._call_id))
