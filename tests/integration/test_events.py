"""What watchers are told, by a real server on each store."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from sayso import (
    Client,
    Event,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    RawAudio,
)

from tests.support import keys
from tests.support.local_server import LocalServer
from tests.support.voices import clips

MESSAGE_BYTES = 3200
LINEAR = RawAudio("LINEAR16", 16_000)


def read_events(client: Client, count: int, **options: object) -> list[Event]:
    """The next `count` events; a test that waits for one that never comes runs into its timeout."""
    watching = client.watch_events(**options)  # type: ignore[arg-type]
    try:
        return list(itertools.islice(watching, count))
    finally:
        watching.close()


def list_kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.type, event.speaker_id) for event in events]


@pytest.fixture(scope="module")
def told(server: LocalServer) -> list[Event]:
    """What a server tells of two voices, four calls and a hang-up, oldest first."""
    with server.client() as client:
        for speaker in ("slt", "awb"):
            for clip in clips(speaker, "enroll"):
                client.enroll(speaker, clip)
        client.groups.create("fraud")
        client.groups.add_members("fraud", ["awb"])
        client.verify("slt", clips("slt", "verify")[0])
        client.verify("slt", clips("awb", "verify")[0], watchlists=["fraud"])
        client.verify("nobody", clips("awb", "verify")[0])
        stream = client.verify_stream("slt", _read(clips("slt", "verify")[0]), raw=LINEAR)
        assert any(decision.accepted for decision in stream)
        stream.close()
        return read_events(client, 10, from_oldest=True)


def _read(path: Path) -> Iterator[bytes]:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == LINEAR.sample_rate
    audio = samples.tobytes()
    return (audio[at : at + MESSAGE_BYTES] for at in range(0, len(audio), MESSAGE_BYTES))


def test_enrollments_and_calls_are_told_in_order(told: list[Event]) -> None:
    assert list_kinds(told) == [
        ("enrollment.completed", "slt"),
        ("enrollment.completed", "awb"),
        ("decision.reached", "slt"),
        ("call.ended", "slt"),
        ("decision.reached", "slt"),
        ("watchlist.matched", "slt"),
        ("call.ended", "slt"),
        ("call.ended", "nobody"),
        ("decision.reached", "slt"),
        ("call.ended", "slt"),
    ]


def test_an_event_has_the_decision_as_it_was_answered(told: list[Event]) -> None:
    accepted, rejected, unknown = told[2], told[4], told[7]
    assert accepted.decision is not None
    assert accepted.decision.outcome == "ACCEPTED"
    assert accepted.decision.llr is not None  # the credential of an open server may see scores
    assert accepted.decision.decision_id == told[3].decision.decision_id  # type: ignore[union-attr]
    assert rejected.decision is not None
    assert rejected.decision.outcome == "REJECTED"
    assert [match.speaker_id for match in told[5].watchlist_matches] == ["awb"]
    assert unknown.decision is not None
    assert unknown.decision.outcome == "NOT_ENROLLED"
    assert len({event.event_id for event in told}) == len(told)
    assert told[2].request_id == told[3].request_id != told[4].request_id


def test_a_watcher_goes_on_from_its_token(server: LocalServer, told: list[Event]) -> None:
    with server.client() as client:
        assert read_events(client, 2, resume_token=told[3].resume_token) == told[4:6]


def test_a_watcher_chooses(server: LocalServer, told: list[Event]) -> None:
    with server.client() as client:
        ended = read_events(client, 2, from_oldest=True, types=["call.ended"])
        assert [event.event_id for event in ended] == [told[3].event_id, told[6].event_id]
        (about,) = read_events(client, 1, from_oldest=True, speaker_id="awb")
        assert about == told[1]


def test_new_events_wake_a_watcher(server: LocalServer, told: list[Event]) -> None:
    with server.client() as client, server.client() as caller:
        news: list[Event] = []
        watching = threading.Thread(
            target=lambda: news.extend(read_events(client, 2, resume_token=told[9].resume_token))
        )
        watching.start()
        caller.verify("slt", clips("slt", "verify")[0])
        watching.join(30)
        assert list_kinds(news) == [("decision.reached", "slt"), ("call.ended", "slt")]


def test_a_token_that_is_none(server: LocalServer) -> None:
    with server.client() as client:
        for token in ("x", "AQ==", "AgAAAAAAAAAB"):
            with pytest.raises(InvalidArgument) as refused:
                read_events(client, 1, resume_token=token)
            assert refused.value.field == "resume_token"


def test_a_locked_speaker_is_told(tmp_path: Path) -> None:
    with (
        LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", lock_after_failures=2) as server,
        server.client() as client,
    ):
        for clip in clips("slt", "enroll"):
            client.enroll("slt", clip)
        for clip in clips("awb", "verify")[:2]:
            client.verify("slt", clip)
        (locked,) = read_events(client, 1, from_oldest=True, types=["speaker.locked"])
        assert locked.speaker_id == "slt"
        assert locked.locked_until is not None
        assert locked.locked_until > locked.created_at


def test_watching_takes_a_role_and_scores_take_another(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    watcher, worker = (
        keys.create(file, "bank", "watch"),
        keys.create(file, "bank", "enroll", "verify"),
    )
    other = keys.create(file, "shop", "watch", "verify")
    store = f"sqlite:///{tmp_path}/sayso.db"
    with LocalServer(store=store, keys=file) as server:
        with Client(server.address, credential=worker) as client:
            for clip in clips("slt", "enroll"):
                client.enroll("slt", clip)
            client.verify("slt", clips("slt", "verify")[0])
            with pytest.raises(PermissionDenied):
                read_events(client, 1)
        with Client(server.address, credential=watcher) as client:
            _, reached, _ = read_events(client, 3, from_oldest=True)
            assert reached.decision is not None
            assert reached.decision.outcome == "ACCEPTED"
            assert (reached.decision.llr, reached.decision.threshold_llr) == (None, None)
        with Client(server.address, credential=other) as client:
            client.verify("of the shop", clips("slt", "verify")[0])
            assert _list_all(client, "of the shop") == []


def _list_all(client: Client, marker: str) -> list[Event]:
    """All events before the end of a call about `marker`."""
    watching = client.watch_events(from_oldest=True)
    events = list(itertools.takewhile(lambda event: event.speaker_id != marker, watching))
    watching.close()
    return events


def test_a_server_that_keeps_none(tmp_path: Path) -> None:
    with (
        LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", events_kept=0) as server,
        server.client() as client,
        pytest.raises(FailedPrecondition, match="SAYSO_EVENTS_KEPT") as refused,
    ):
        read_events(client, 1)
    assert refused.value.reason == "EVENTS_OFF"


def test_what_was_missed_is_counted(tmp_path: Path) -> None:
    with (
        LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", events_kept=2) as server,
        server.client() as client,
    ):
        client.verify("nobody", clips("awb", "verify")[0])
        (first,) = read_events(client, 1, from_oldest=True)
        for _ in range(4):
            client.verify("nobody", clips("awb", "verify")[0])
        after, last = read_events(client, 2, resume_token=first.resume_token)
        assert (after.lost, last.lost) == (2, 0)


def test_a_server_that_stops_does_not_wait_for_watchers(tmp_path: Path) -> None:
    """It ends them at once; the client then goes on with the next server at that address."""
    store = f"sqlite:///{tmp_path}/sayso.db"
    with LocalServer(store=store, drain_s=20.0) as server, server.client() as client:
        client.verify("nobody", clips("awb", "verify")[0])
        watching = client.watch_events(from_oldest=True)
        first = next(watching)
        server.terminate()
        with LocalServer(store=store, listen=server.address) as next_server:
            with next_server.client() as caller:
                _wait_until_ready(caller)
                caller.verify("somebody", clips("awb", "verify")[0])
            second = next(watching)
            watching.close()
    assert [first.speaker_id, second.speaker_id] == ["nobody", "somebody"]


def _wait_until_ready(client: Client) -> None:
    """gRPC shares the connection with the watcher, and makes it again after a while."""
    deadline = time.monotonic() + 30
    while not client.ready():
        assert time.monotonic() < deadline, client.why_not_ready()
        time.sleep(0.05)
