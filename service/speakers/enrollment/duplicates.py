"""Finds other speakers who have a voice already, by comparing it with each of the tenant's."""

from collections.abc import AsyncIterator, Callable, Mapping

from service.contract import Calibration, Contract
from service.decisions.thresholds import careful_threshold
from service.errors import ErrorReason, FailedPrecondition
from service.inference.embedder import Utterance
from service.store import Speaker, Store, Voiceprint

_PAGE = 200


class DuplicateSearch:
    """Compares an utterance with all voices of a tenant, each by its own model.

    `select` picks the voiceprint of a speaker to compare, if any; `llr` gives the natural-log
    likelihood ratio of an utterance against it. The chance that a new voice raises a false alarm
    is `alarm_rate`, and at most `limit` speakers are compared.
    """

    def __init__(
        self,
        store: Store,
        contracts: Mapping[str, Contract],
        *,
        select: Callable[[Speaker], Voiceprint | None],
        llr: Callable[[Voiceprint, Utterance], float],
        alarm_rate: float,
        limit: int,
    ) -> None:
        self._store = store
        self._contracts = contracts
        self._select = select
        self._llr = llr
        self._alarm_rate = alarm_rate
        self._limit = limit

    async def find(self, tenant: str, own_id: str, utterance: Utterance) -> tuple[str, ...]:
        """The ids of other speakers than `own_id` who have this voice, the likeliest first.

        Raises `FailedPrecondition` for a model without a calibration, and for too many speakers.
        """
        calibrations = {
            name: _require_calibration(contract) for name, contract in self._contracts.items()
        }
        scored = {
            speaker_id: (self._llr(voiceprint, utterance), voiceprint.model_id)
            async for speaker_id, voiceprint in self._list_voices(tenant)
            if speaker_id != own_id
        }
        rate = self._alarm_rate / max(len(scored), 1)
        min_llr = {
            name: careful_threshold(calibration, rate) for name, calibration in calibrations.items()
        }
        duplicates = [
            speaker_id for speaker_id, (llr, model_id) in scored.items() if llr >= min_llr[model_id]
        ]
        return tuple(sorted(duplicates, key=lambda speaker_id: -scored[speaker_id][0]))

    async def _list_voices(self, tenant: str) -> AsyncIterator[tuple[str, Voiceprint]]:
        count, after = 0, None
        while True:
            page = await self._store.list(tenant, limit=_PAGE, after=after)
            count += len(page.speakers)
            if count > self._limit:
                raise FailedPrecondition(
                    f"there are more than {self._limit} speakers to compare with; "
                    "allow duplicates, or raise SAYSO_DUPLICATE_LIMIT",
                    reason=ErrorReason.SEARCH_LIMIT,
                )
            for speaker in page.speakers:
                if (voiceprint := self._select(speaker)) is not None:
                    yield speaker.speaker_id, voiceprint
            if page.next_after is None:
                return
            after = page.next_after


def _require_calibration(contract: Contract) -> Calibration:
    calibration = contract.calibration
    if calibration is None or not calibration.false_match:
        raise FailedPrecondition(
            f"the model {contract.model_id} has no calibration, so duplicates cannot be found; "
            "allow them, or run `sayso-export calibrate` on it and restart the server",
            reason=ErrorReason.MODEL_UNCALIBRATED,
        )
    return calibration
