"""Calls are announced by one client and taken by another, of the same tenant."""

from pathlib import Path

import pytest
from sayso import Client, InvalidArgument, NotFound, PermissionDenied

from tests.support import keys
from tests.support.local_server import LocalServer


def test_an_announced_call_is_taken_once(sayso: Client) -> None:
    announced = sayso.announce_call("CA1", "alice", valid_s=30.0)
    taken = sayso.take_call("CA1")
    assert taken == announced
    assert (taken.call_id, taken.speaker_ids, taken.policy) == ("CA1", ("alice",), "")
    with pytest.raises(NotFound) as refused:
        sayso.take_call("CA1")
    assert refused.value.reason == "CALL_NOT_FOUND"


def test_a_household_is_announced(sayso: Client) -> None:
    sayso.announce_call("CA3", ["anna", "ben"])
    assert sayso.take_call("CA3").speaker_ids == ("anna", "ben")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"call_id": ""}, "call.call_id"),
        ({"call_id": "x" * 129}, "call.call_id"),
        ({"speaker_id": ""}, "call.speaker_ids"),
        ({"speaker_id": []}, "call.speaker_ids"),
        ({"speaker_id": ["a", "b", "a"]}, "call.speaker_ids"),
        ({"speaker_id": list("abcdefghi")}, "call.speaker_ids"),
        ({"policy": "unheard-of"}, "call.policy_name"),
        ({"valid_s": 3601.0}, "valid_s"),
        ({"valid_s": float("nan")}, "valid_s"),
    ],
)
def test_what_cannot_be_announced(sayso: Client, arguments: dict[str, object], field: str) -> None:
    given: dict[str, object] = {"call_id": "CA2", "speaker_id": "alice"} | arguments
    with pytest.raises(InvalidArgument) as refused:
        sayso.announce_call(**given)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_tenant_takes_its_own_calls_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    made = {tenant: keys.create(file, tenant, "verify") for tenant in ("bank", "shop")}
    enrolling = keys.create(file, "bank", "enroll")
    with LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", keys=file) as server:
        bank, shop, other = (
            Client(server.address, credential=key)
            for key in (made["bank"], made["shop"], enrolling)
        )
        with bank, shop, other:
            bank.announce_call("CA1", "alice")
            with pytest.raises(NotFound):
                shop.take_call("CA1")
            with pytest.raises(PermissionDenied):
                other.announce_call("CA1", "mallory")
            assert bank.take_call("CA1").speaker_ids == ("alice",)
