import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.access import Role, key_file
from service.access.grants import ClientCertificate, Grants
from service.access.keys import make_key
from service.errors import SettingsError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def add(path: Path, tenant: str) -> str:
    """Add a key; returns its id."""
    _, entry = make_key(tenant, [Role.VERIFY], now=NOW, expires=None)
    return key_file.change(path, lambda grants: (grants.replace(entry), entry.id))


def test_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, key = make_key("bank", [Role.ADMIN, Role.VERIFY], now=NOW, expires=NOW)
    certificate = ClientCertificate(
        id="c", tenant="ivr", roles=frozenset({Role.ENROLL}), created=NOW, name="spiffe://bank/ivr"
    )
    key_file.change(path, lambda grants: (grants.replace(key, certificate), None))
    assert key_file.read(path) == Grants(keys=(key,), certificates=(certificate,))


def test_is_for_its_owner_only_and_holds_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, entry = make_key("bank", [Role.VERIFY], now=NOW, expires=None)
    key_file.change(path, lambda grants: (grants.replace(entry), None))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.rpartition("_")[2] not in path.read_text()
    assert len(key.rpartition("_")[2]) * 4 == 256


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda _: add(path, "bank"), range(40)))
    assert len(key_file.read(path).keys) == 40
    assert sorted(each.name for each in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def test_an_edit_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, "bank")
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        key_file.change(path, lambda grants: (grants, 1 // 0))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def entry(**changed: object) -> dict[str, object]:
    whole = {
        "id": "1",
        "tenant": "bank",
        "roles": ["verify"],
        "created": "2026-01-02T03:04:05Z",
        "sha256": "0" * 64,
    }
    return {**whole, **changed}


def test_the_earlier_name_of_a_role_counts(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [entry(roles=["enrol"])]}))
    path.chmod(0o600)
    assert key_file.read(path).find("1").roles == {Role.ENROLL}


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ([entry(tenant="a b")], "keys.0.tenant"),
        ([entry(roles=[])], "keys.0.roles"),
        ([entry(roles=["root"])], "keys.0.roles"),
        ([entry(sha256="sayso_1_hunter2")], "keys.0.sha256"),
        ([entry(secret="hunter2")], "keys.0.secret"),
        ([entry(expires="2026-01-02T03:04:05")], "keys.0.expires"),
        ([entry(), entry(tenant="other")], "2 entries have the id 1"),
    ],
)
def test_a_wrong_entry_is_named_and_not_repeated(
    tmp_path: Path, keys: list[object], where: str
) -> None:
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"keys": keys}))
    with pytest.raises(SettingsError) as caught:
        key_file.read(path)
    assert where in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError):
        add(path, "bank")
    assert json.loads(path.read_text()) == {"keys": keys}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="sayso keys create"):
        key_file.read(tmp_path / "keys.json")
    with pytest.raises(SettingsError, match="cannot write"):
        add(tmp_path / "nowhere" / "keys.json", "bank")
