"""What the trail says of changes and decisions, and when it says it."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.audit import Action, Auditor, Origin, Trail, chain
from service.audit.entries import parse_line
from service.audit.subjects import Subjects
from service.decisions.decision import Decision, Outcome, Reason, Score
from service.decisions.policy import ThresholdSource
from service.decisions.thresholds import Threshold
from service.errors import NotFound, Unavailable

ORIGIN = Origin("t", "key:k1", "r-1")
DECISION = Decision(
    Outcome.REJECTED,
    "model-a",
    "log-likelihood ratio of alice is low",
    reasons=(Reason.VOICE_CHANGED,),
    score=Score(0.123456, -1.23456),
    threshold=Threshold(2.34567, ThresholdSource.SERVER, "setting"),
)


class Kept:
    """A trail, and what it holds."""

    def __init__(self, folder: Path, trail: Trail) -> None:
        self.folder = folder
        self.trail = trail
        self.auditor = Auditor(trail, origin=lambda: ORIGIN)

    def facts(self) -> list[dict[str, Any]]:
        """Without their codes, which are checked."""
        key = Subjects.read(self.folder.with_suffix(".key")).signing_key
        chain.verify([self.folder], key=key)
        found = [dict(parse_line(line.text) or {}) for line in chain.lines([self.folder])]
        return [{name: value for name, value in each.items() if name != "hmac"} for each in found]

    def text(self) -> str:
        return "".join(line.text.decode() for line in chain.lines([self.folder]))


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    async with Trail(tmp_path / "audit") as trail:
        yield Kept(tmp_path / "audit", trail)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)


async def test_a_change_is_entered_before_and_after(kept: Kept) -> None:
    async with kept.auditor.record_change(Action.ENROL, "alice", groups=2) as change:
        (begun,) = kept.facts()
        assert (begun["action"], begun["outcome"]) == ("enrol", "BEGUN")
        change.set_outcome("REFUSED", ["TOO_NOISY"], model_id="model-a")
    _, ended = kept.facts()
    assert ended | {"prev": "", "time": ""} == {
        "seq": 2,
        "prev": "",
        "time": "",
        "action": "enrol",
        "outcome": "REFUSED",
        "tenant": "t",
        "credential": "key:k1",
        "subject": kept.trail.make_pseudonym("t", "alice"),
        "reasons": ["TOO_NOISY"],
        "model_id": "model-a",
        "request_id": "r-1",
        "detail": {"groups": 2, "begun": 1},
    }


async def test_the_receipt_of_a_change_is_its_entry(kept: Kept) -> None:
    async with kept.auditor.record_change(Action.DELETE, "alice") as change:
        pass
    found = chain.verify([kept.folder], known=[change.receipt.digest])
    assert found.head.digest == change.receipt.digest
    assert change.receipt.subject == kept.trail.make_pseudonym("t", "alice")
    assert change.receipt.at > 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotFound("there is none"), "NOT_FOUND"),
        (ZeroDivisionError(), "INTERNAL"),
        (asyncio.CancelledError(), "CANCELLED"),
    ],
)
async def test_a_change_that_fails(kept: Kept, error: BaseException, outcome: str) -> None:
    with pytest.raises(type(error)):
        async with kept.auditor.record_change(Action.DELETE, "alice"):
            raise error
    assert [fact["outcome"] for fact in kept.facts()] == ["BEGUN", outcome]


async def test_without_room_no_change_begins(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_the_disk(monkeypatch)
    with pytest.raises(Unavailable):
        async with kept.auditor.record_change(Action.DELETE, "alice"):
            pytest.fail("nothing may be changed unseen")


async def test_a_change_whose_end_cannot_be_entered_is_not_acknowledged(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="audit trail"):
        async with kept.auditor.record_change(Action.DELETE, "alice"):
            fill_the_disk(monkeypatch)
    assert [fact["outcome"] for fact in kept.facts()] == ["BEGUN"]


async def test_an_error_is_told_rather_than_the_missing_entry(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound):
        async with kept.auditor.record_change(Action.DELETE, "alice"):
            fill_the_disk(monkeypatch)
            raise NotFound("there is none")


async def test_a_decision(kept: Kept) -> None:
    await kept.auditor.record_decision(Action.VERIFY, DECISION, "alice", matches=1)
    (fact,) = kept.facts()
    assert fact | {"prev": "", "time": ""} == {
        "seq": 1,
        "prev": "",
        "time": "",
        "action": "verify",
        "outcome": "REJECTED",
        "tenant": "t",
        "credential": "key:k1",
        "subject": kept.trail.make_pseudonym("t", "alice"),
        "reasons": ["VOICE_CHANGED"],
        "model_id": "model-a",
        "llr": -1.23,
        "threshold_llr": 2.35,
        "request_id": "r-1",
        "detail": {"matches": 1},
    }


async def test_no_speaker_id_is_in_the_trail(kept: Kept) -> None:
    await kept.auditor.record_decision(Action.VERIFY, DECISION, "alice")
    async with kept.auditor.record_change(Action.UPDATE, "alice", fields="metadata"):
        pass
    assert "alice" not in kept.text()


async def test_a_decision_that_cannot_be_entered_is_not_told(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_the_disk(monkeypatch)
    with pytest.raises(Unavailable):
        await kept.auditor.record_decision(Action.VERIFY, DECISION, "alice")


async def test_unless_the_operator_says_so(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    lenient = Auditor(kept.trail, origin=lambda: ORIGIN, strict=False)
    with monkeypatch.context() as broken:
        fill_the_disk(broken)
        await lenient.record_decision(Action.VERIFY, DECISION, "alice")
        with pytest.raises(Unavailable):
            async with lenient.record_change(Action.DELETE, "alice"):
                pass
    await lenient.record_decision(Action.VERIFY, DECISION, "alice")
    assert [fact["action"] for fact in kept.facts()] == ["lost", "verify"]


async def test_without_a_trail() -> None:
    auditor = Auditor(None, origin=lambda: ORIGIN, clock=lambda: 7.0)
    await auditor.record_decision(Action.VERIFY, DECISION, "alice")
    async with auditor.record_change(Action.DELETE, "alice") as change:
        pass
    assert (change.receipt.at, change.receipt.subject, change.receipt.digest) == (7.0, "", "")
