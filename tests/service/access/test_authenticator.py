"""Real calls against a real server that says who makes them."""

import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from sayso import Client, PermissionDenied, Unauthenticated
from sayso.v1 import (
    speaker_pb2,
    speaker_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)

from service.access import Authenticator, Keys, Role, TokenRules, key_file, open_authenticator
from service.access.keys import make_key
from service.errors import SettingsError
from tests.support.whoami_server import WhoamiServer

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Bank:
    """A key file, and keys made in it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"

    def key(self, tenant: str = "bank", *roles: Role) -> str:
        key, entry = make_key(tenant, roles or [Role.VERIFY], now=NOW, expires=None)
        key_file.change(self.path, lambda grants: (grants.replace(entry), None))
        return key

    def authenticator(self) -> Authenticator:
        return Authenticator(keys=Keys(self.path, now=lambda: NOW, look_every_s=0), tokens=None)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path)


@pytest.fixture
def key(bank: Bank) -> str:
    return bank.key()


@pytest.fixture
def server(bank: Bank, key: str) -> Iterator[WhoamiServer]:
    with WhoamiServer(bank.authenticator()) as running:
        yield running


def called(server: WhoamiServer, *metadata: tuple[str, str]) -> Any:
    """The error code of a call with this metadata and its text, or None and the tenant."""
    with grpc.insecure_channel(server.address) as channel:
        stub = speaker_pb2_grpc.SpeakerServiceStub(channel)
        try:
            reply = stub.GetSpeaker(speaker_pb2.GetSpeakerRequest(), metadata=metadata)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return None, reply.speaker.metadata["tenant"]


def opened(**given: Any) -> Authenticator | None:
    whole = {"keys": None, "jwks": None, "token_rules": TokenRules("", "")}
    return open_authenticator(now=lambda: NOW, **{**whole, **given})


def test_settings_that_ask_for_credentials(bank: Bank, key: str) -> None:
    assert opened() is None
    asking = opened(keys=bank.path)
    assert asking is not None
    assert asking.authenticate([("x-api-key", key)], []).tenant == "bank"


def test_settings_that_are_half_there_leave_no_server_open(bank: Bank, tmp_path: Path) -> None:
    mistakes = [
        {"keys": tmp_path / "nowhere.json"},
        {"token_rules": TokenRules("https://login.bank.example", "")},
        {"token_rules": TokenRules("", "sayso")},
        {"jwks": tmp_path / "jwks.json"},
        {"jwks": tmp_path / "jwks.json", "token_rules": TokenRules("", "sayso")},
        {"jwks": tmp_path / "nowhere.json", "token_rules": TokenRules("issuer", "sayso")},
    ]
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    for given in mistakes:
        with pytest.raises(SettingsError, match=r"SAYSO_(KEYS|JWKS)"):
            opened(**given)  # type: ignore[arg-type]


def test_without_an_authenticator_everyone_may_do_everything() -> None:
    with WhoamiServer() as server, Client(server.address) as sayso:
        assert sayso.speakers.get("x").metadata == {
            "tenant": "default",
            "roles": "verify enroll admin analyze confirm watch",
            "credential": "none",
        }
        sayso.speakers.delete("x")


def test_a_key_says_who_calls(server: WhoamiServer, key: str) -> None:
    with Client(server.address, credential=key) as sayso:
        assert sayso.speakers.get("x").metadata == {
            "tenant": "bank",
            "roles": "verify",
            "credential": f"key:{key.split('_')[1]}",
        }


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_ways_to_show_a_key(server: WhoamiServer, key: str, scheme: str) -> None:
    assert called(server, ("authorization", f"{scheme} {key}")) == (None, "bank")
    assert called(server, ("x-api-key", key)) == (None, "bank")


def test_what_is_no_credential(server: WhoamiServer, key: str) -> None:
    shown = [
        [],
        [("authorization", key)],
        [("authorization", f"Basic {key}")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")],
        [("x-api-key", "eyJhbGciOiJub25lIn0.e30.")],
        [("x-api-key", key), ("authorization", f"Bearer {key}")],
        [("x-api-key", key), ("x-api-key", key)],
    ]
    for metadata in shown:
        code, text = called(server, *metadata)
        assert code is grpc.StatusCode.UNAUTHENTICATED, metadata
        assert key not in text
        assert "eyJ" not in text


def test_keys_come_and_go_while_the_server_runs(bank: Bank, server: WhoamiServer, key: str) -> None:
    second = bank.key("shop")
    assert called(server, ("x-api-key", second)) == (None, "shop")
    entry = key_file.read(bank.path).find(key.split("_")[1])
    gone = entry.model_copy(update={"revoked": NOW})
    key_file.change(bank.path, lambda grants: (grants.replace(gone), None))
    assert called(server, ("x-api-key", key))[0] is grpc.StatusCode.UNAUTHENTICATED
    bank.path.write_text("broken")
    assert called(server, ("x-api-key", second)) == (None, "shop")


def test_a_role_that_is_missing_is_named(server: WhoamiServer, key: str) -> None:
    with (
        Client(server.address, credential=key) as sayso,
        pytest.raises(PermissionDenied, match="the role enroll") as caught,
    ):
        sayso.speakers.delete("x")
    assert key not in str(caught.value)


def test_no_role_includes_another(bank: Bank, server: WhoamiServer) -> None:
    with (
        Client(server.address, credential=bank.key("bank", Role.ADMIN)) as sayso,
        pytest.raises(PermissionDenied, match="the role verify"),
    ):
        sayso.speakers.get("x")


def test_an_rpc_that_is_not_in_the_table_is_for_nobody(
    bank: Bank, server: WhoamiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.access.authenticator.ROLES", {})
    with (
        Client(server.address, credential=bank.key("bank", *Role)) as sayso,
        pytest.raises(PermissionDenied),
    ):
        sayso.speakers.get("x")


def test_health_asks_for_no_credential(server: WhoamiServer) -> None:
    with Client(server.address) as sayso:
        assert sayso.ready()
        with pytest.raises(Unauthenticated, match="show a credential"):
            sayso.speakers.get("x")


def test_a_stream_is_guarded_as_well(server: WhoamiServer) -> None:
    with Client(server.address) as sayso, pytest.raises(Unauthenticated):
        list(sayso.verify_stream("x", [b"1", b"2"]))


def test_streams_at_once_have_each_its_tenant(bank: Bank, server: WhoamiServer) -> None:
    """Each sends only when the other has been answered, so that the two take turns."""
    turns = {"bank": threading.Semaphore(1), "shop": threading.Semaphore(0)}
    told: dict[str, list[str]] = {}

    def stream(tenant: str, other: str) -> None:
        def requests() -> Iterator[verification_pb2.StreamingVerifyRequest]:
            for _ in range(5):
                turns[tenant].acquire()
                yield verification_pb2.StreamingVerifyRequest()

        with grpc.insecure_channel(server.address) as channel:
            stub = verification_pb2_grpc.VerificationServiceStub(channel)
            replies = stub.StreamingVerify(
                requests(),
                metadata=(("x-api-key", shown[tenant]),),
                timeout=30,
            )
            told[tenant] = []
            for reply in replies:
                told[tenant].append(reply.decision.explanation)
                turns[other].release()

    shown = {tenant: bank.key(tenant) for tenant in turns}
    threads = [threading.Thread(target=stream, args=pair) for pair in itertools.permutations(turns)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == {tenant: [tenant] * 5 for tenant in turns}
