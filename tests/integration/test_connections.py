"""Connections that last through a call on hold, are found out when they are dead, and are several
where there are several servers."""

import json
import time
from pathlib import Path

import grpc
import pytest
from sayso import OPTIONS, Client, NotFound, SaysoError, Unavailable

from tests.reliability.proxy import Proxy
from tests.support.local_server import LocalServer
from tests.support.raw_http2 import RawConnection
from tests.support.sayso_server import SaysoServer

PATIENCE_S = 60.0
PING_S = 9.2  # a little more than the server asks for
STRIKES = 3  # of gRPC: pings that come too soon before it ends a connection


def answers(sayso: Client) -> bool:
    try:
        sayso.speakers.get("nobody")
    except NotFound:
        return True
    except SaysoError:
        return False
    raise AssertionError("nobody is enrolled")


@pytest.mark.slow
def test_a_client_may_ping_while_a_call_is_on_hold(sqlite_server: LocalServer) -> None:
    """It takes half a minute: gRPC looks at the time between pings."""
    with RawConnection(sqlite_server.address) as connection:
        for _ in range(1 + STRIKES):
            connection.ping()
            assert not connection.cut_off
            connection.receive(PING_S)
        connection.ping()
        assert not connection.cut_off


def test_a_client_that_pings_without_end_is_cut_off(sqlite_server: LocalServer) -> None:
    with RawConnection(sqlite_server.address) as connection:
        for _ in range(2 + STRIKES):
            if not connection.cut_off:
                connection.ping()
        while not connection.cut_off:
            assert connection.receive(PATIENCE_S)


def test_a_connection_that_falls_silent_is_replaced(sqlite_server: LocalServer) -> None:
    port = int(sqlite_server.address.rpartition(":")[2])
    with Proxy(port) as proxy, Client(proxy.address) as sayso:
        assert answers(sayso)
        proxy.stall()
        with pytest.raises(Unavailable):
            sayso.speakers.get("nobody")
        deadline = time.monotonic() + PATIENCE_S
        while not answers(sayso):
            assert time.monotonic() < deadline, "the client never connected again"


def test_a_server_that_comes_back_is_found(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'sayso.db'}"
    with SaysoServer(store=store) as server:
        address = server.address
        with Client(address) as sayso:
            assert answers(sayso)
            server.terminate()
            assert not answers(sayso)
            with SaysoServer(store=store, listen=address):
                deadline = time.monotonic() + PATIENCE_S
                while not answers(sayso):
                    assert time.monotonic() < deadline, "the client never connected again"


def test_calls_go_to_both_of_two_servers(tmp_path: Path) -> None:
    stores = [f"sqlite:///{tmp_path / name}.db" for name in ("one", "two")]
    with SaysoServer(store=stores[0]) as one, SaysoServer(store=stores[1]) as two:
        target = f"ipv4:{one.address},{two.address}"
        with Client(target) as sayso:
            deadline = time.monotonic() + PATIENCE_S
            while min(one.log.count("GetSpeaker"), two.log.count("GetSpeaker")) < 5:
                assert time.monotonic() < deadline
                answers(sayso)
        with Client(target, options={"grpc.service_config": None}) as sayso:
            for _ in range(10):
                list(sayso.speakers.list())
            while one.log.count("ListSpeakers") + two.log.count("ListSpeakers") < 10:
                assert time.monotonic() < deadline, "each call is logged soon"
        assert 0 in (one.log.count("ListSpeakers"), two.log.count("ListSpeakers"))


def test_options_are_the_clients_own_unless_they_are_given() -> None:
    seen: list[dict[str, object]] = []

    def channel(address: str, options: list[tuple[str, object]]) -> grpc.Channel:
        seen.append(dict(options))
        return original(address, options=options)

    original, patch = grpc.insecure_channel, pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(grpc, "insecure_channel", channel)
        Client().close()
        given = {"grpc.keepalive_time_ms": 60_000, "grpc.service_config": None, "x": 1}
        Client(options=given).close()
    assert OPTIONS.items() <= seen[0].items()
    assert seen[1]["grpc.keepalive_time_ms"] == 60_000
    assert seen[1]["x"] == 1
    assert "grpc.service_config" not in seen[1]
    assert "round_robin" in json.dumps(OPTIONS["grpc.service_config"])
