"""What is owed to endpoints, across deaths of the gateway."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sayso import SettingsError

from gateway.webhooks import outbox as module
from gateway.webhooks.outbox import LIVE_S, NewEvent, Outbox, hold_alone, open_outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    with open_outbox(path, 5) as opened:
        yield opened


def make(number: int, kind: str = "call.ended", call: str = "call") -> NewEvent:
    return NewEvent(f"event-{number}", kind, call, b"{}")


def due(outbox: Outbox, now: float = 0.0, endpoint: str = "desk") -> list[str]:
    return [each.event_id for each in outbox.find_due(endpoint, now=now, limit=100)]


def test_token_and_event_outlive_the_process(path: Path) -> None:
    with open_outbox(path) as outbox:
        assert outbox.get_token() is None
        outbox.add("token-1", make(1), ["desk", "fraud"], now=0.0)
        outbox.add("token-2", None, [], now=0.0)
    with open_outbox(path) as outbox:
        assert outbox.get_token() == "token-2"
        assert due(outbox) == due(outbox, endpoint="fraud") == ["event-1"]
    assert path.stat().st_mode & 0o077 == 0


def test_an_event_that_comes_twice_is_owed_once(outbox: Outbox) -> None:
    for _ in range(2):
        outbox.add("token", make(1), ["desk"], now=0.0)
    assert due(outbox) == ["event-1"]


def test_a_transaction_that_fails_keeps_neither_token_nor_event(outbox: Outbox) -> None:
    outbox.add("token-1", None, [], now=0.0)
    with pytest.raises(Exception, match="NOT NULL"):
        outbox.add("token-2", NewEvent("id", "call.ended", None, b""), ["desk"], now=0.0)  # type: ignore[arg-type]
    assert outbox.get_token() == "token-1"
    assert due(outbox) == []


def test_attempts_are_counted_and_the_last_is_a_failure(outbox: Outbox) -> None:
    outbox.add("token", make(1), ["desk"], now=0.0)
    [first] = outbox.find_due("desk", now=0.0, limit=1)
    assert outbox.postpone(first, until=5.0, error="HTTP 500", now=0.0)
    assert due(outbox, now=4.9) == []
    [second] = outbox.find_due("desk", now=5.0, limit=1)
    assert second.attempts == 1
    outbox.fail(second, error="HTTP 503", now=6.0)
    [failure] = outbox.list_failures()
    assert (failure.attempts, failure.error) == (2, "given up; last: HTTP 503")
    assert outbox.count("desk").failed == 1
    assert outbox.replay("desk", [], now=7.0) == 1
    [again] = outbox.find_due("desk", now=7.0, limit=1)
    assert again.attempts == 0
    outbox.complete(again)
    assert outbox.count("desk") == module.Backlog(0, 0, None)


def test_a_live_event_is_not_tried_again_after_its_call(outbox: Outbox) -> None:
    outbox.add("1", make(1, "decision.reached"), ["desk"], now=0.0)
    outbox.add("2", make(2, "decision.reached", "other call"), ["desk"], now=0.0)
    outbox.add("3", make(3, "watchlist.matched"), ["desk"], now=0.0)
    for delivery in outbox.find_due("desk", now=0.0, limit=9):
        assert outbox.postpone(delivery, until=5.0, error="HTTP 500", now=0.0)
    outbox.add("4", make(4), ["desk"], now=1.0)
    assert due(outbox, now=9.0) == ["event-4", "event-2", "event-3"]
    [expired] = outbox.list_failures()
    assert (expired.event_id, expired.error) == (
        "event-1",
        "its call is over; last: HTTP 500",
    )


def test_a_live_event_of_a_call_that_ended_meanwhile_has_one_attempt(outbox: Outbox) -> None:
    outbox.add("1", make(1, "decision.reached"), ["desk"], now=0.0)
    outbox.add("2", make(2), [], now=1.0)
    [delivery] = outbox.find_due("desk", now=2.0, limit=9)
    assert not outbox.postpone(delivery, until=7.0, error="HTTP 500", now=2.0)
    assert due(outbox, now=9.0) == []


def test_a_live_event_whose_call_never_ends_expires(outbox: Outbox) -> None:
    outbox.add("1", make(1, "decision.changed"), ["desk"], now=0.0)
    [delivery] = outbox.find_due("desk", now=0.0, limit=9)
    assert outbox.postpone(delivery, until=LIVE_S, error="", now=0.0)
    assert not outbox.postpone(delivery, until=LIVE_S + 1, error="", now=0.0)


def test_a_replayed_live_event_does_not_expire(outbox: Outbox) -> None:
    outbox.add("1", make(1, "decision.reached"), ["desk"], now=0.0)
    outbox.fail(*outbox.find_due("desk", now=0.0, limit=1), error="", now=0.0)
    outbox.replay(None, ["event-1"], now=9 * LIVE_S)
    [delivery] = outbox.find_due("desk", now=9 * LIVE_S, limit=1)
    assert outbox.postpone(delivery, until=10 * LIVE_S, error="", now=9 * LIVE_S)


def test_over_the_limit_the_oldest_fail(outbox: Outbox) -> None:
    dropped = [outbox.add("token", make(each), ["desk"], now=each) for each in range(7)]
    assert dropped == [0, 0, 0, 0, 0, 1, 1]
    assert due(outbox, now=9.0) == [f"event-{each}" for each in range(2, 7)]
    assert [each.error for each in outbox.list_failures()] == ["too many events wait"] * 2


def test_failures_are_bounded(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_FAILURES", 3)
    for each in range(12):
        outbox.add("token", make(each), ["desk"], now=each)
    assert [each.event_id for each in outbox.list_failures()] == ["event-4", "event-5", "event-6"]


def test_what_is_gone_is_sent_nothing_until_it_is_enabled(outbox: Outbox) -> None:
    outbox.add("1", make(1), ["desk", "fraud"], now=0.0)
    outbox.mark_gone("desk", "https://a", now=1.0)
    outbox.add("2", make(2), ["desk", "fraud"], now=2.0)
    assert outbox.is_gone("desk")
    assert due(outbox, now=9.0) == []
    assert due(outbox, now=9.0, endpoint="fraud") == ["event-1", "event-2"]
    assert outbox.enable("desk")
    assert not outbox.enable("desk")
    outbox.add("3", make(3), ["desk"], now=2.0)
    assert due(outbox, now=9.0) == ["event-3"]


def test_another_url_may_not_be_gone(outbox: Outbox) -> None:
    outbox.mark_gone("desk", "https://a", now=1.0)
    outbox.retain({"desk": "https://a"}, now=2.0)
    assert outbox.is_gone("desk")
    outbox.retain({"desk": "https://b"}, now=2.0)
    assert not outbox.is_gone("desk")


def test_what_waits_for_a_removed_endpoint_fails(outbox: Outbox) -> None:
    outbox.add("1", make(1), ["desk", "fraud"], now=0.0)
    outbox.retain({"desk": "https://a"}, now=2.0)
    [failure] = outbox.list_failures()
    assert (failure.endpoint, failure.error) == (
        "fraud",
        "the endpoint is disabled or not configured",
    )


def test_a_second_gateway_is_refused(path: Path) -> None:
    with hold_alone(path), pytest.raises(SettingsError, match="another gateway"), hold_alone(path):
        pass
    with hold_alone(path):
        pass


def test_a_file_that_is_something_else_is_refused(path: Path) -> None:
    path.write_text("not a database, but long enough to be looked at" * 50)
    with pytest.raises(SettingsError, match="is no state of webhooks"), open_outbox(path):
        pass
