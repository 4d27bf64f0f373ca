"""`sayso keys` on a real file, and its keys in real calls."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sayso import Client, Unauthenticated
from typer.testing import CliRunner, Result

from service.access import Authenticator, Keys, key_file
from service.commands import keys
from tests.support.whoami_server import WhoamiServer

KEY = re.compile(r"sayso_[0-9a-f]{16}_[0-9a-f]{64}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def run(path: Path, *arguments: str) -> Result:
    environment = {"COLUMNS": "120", "SAYSO_KEYS": str(path)}
    return CliRunner(env=environment).invoke(keys.app, arguments)


def made(path: Path, *arguments: str) -> str:
    """The key on standard output, alone."""
    result = run(path, *arguments)
    assert result.exit_code == 0, result.output
    key = result.stdout.strip()
    assert KEY.fullmatch(key)
    return key


def create(path: Path, *arguments: str) -> str:
    return made(path, "create", "--tenant", "bank", "--role", "verify", *arguments)


def tenant(path: Path, key: str) -> str:
    """The tenant of a call with this key."""
    authenticator = Authenticator(keys=Keys(path, now=lambda: datetime.now(UTC)), tokens=None)
    with WhoamiServer(authenticator) as server, Client(server.address, credential=key) as sayso:
        return sayso.speakers.get("x").metadata["tenant"]


def test_a_created_key_works_and_a_revoked_one_does_not(path: Path) -> None:
    key = create(path)
    assert tenant(path, key) == "bank"
    assert "revoked" in run(path, "revoke", key.split("_")[1]).stdout
    with pytest.raises(Unauthenticated, match="revoked"):
        tenant(path, key)


def test_a_list_shows_entries_and_no_secret(path: Path) -> None:
    key = create(path, "--role", "admin", "--expires-days", "30")
    trusted = run(path, "trust", "spiffe://bank/ivr", "--tenant", "bank", "--role", "verify")
    listed = run(path, "list").stdout
    assert key.split("_")[1] in listed
    assert key.split("_")[2] not in listed
    assert "verify, admin" in listed
    assert "spiffe://bank/ivr" in listed
    assert trusted.stdout.split()[-1] in listed


def test_the_earlier_name_of_a_role_is_taken(path: Path) -> None:
    assert made(path, "create", "--tenant", "bank", "--role", "enrol")
    assert "enroll" in run(path, "list").stdout


def test_rotation_leaves_both_keys_valid_and_a_grace_time_of_none_only_the_new_one(
    path: Path,
) -> None:
    first = create(path)
    second = made(path, "rotate", first.split("_")[1])
    assert tenant(path, first) == tenant(path, second) == "bank"
    third = made(path, "rotate", second.split("_")[1], "--grace-hours", "0")
    assert tenant(path, third) == "bank"
    with pytest.raises(Unauthenticated, match="expired"):
        tenant(path, second)


def test_a_certificate_is_trusted_once_until_it_is_revoked(path: Path) -> None:
    arguments = ("trust", "ivr", "--tenant", "bank", "--role", "verify")
    first = run(path, *arguments).stdout.split()[-1]
    again = run(path, *arguments)
    assert (again.exit_code, first in again.stderr) == (2, True)
    run(path, "revoke", first)
    assert run(path, *arguments).exit_code == 0
    assert len(key_file.read(path).certificates) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--tenant", "a b", "--role", "verify"),
        ("create", "--tenant", "bank"),
        ("create", "--tenant", "bank", "--role", "root"),
        ("create", "--tenant", "bank", "--role", "verify", "--expires-days", "-1"),
        ("revoke", "0000"),
        ("rotate", "0000"),
    ],
)
def test_mistakes_change_nothing(path: Path, arguments: tuple[str, ...]) -> None:
    create(path)
    before = path.read_bytes()
    assert run(path, *arguments).exit_code == 2
    assert path.read_bytes() == before


def test_a_file_of_another_kind_is_left_alone(path: Path) -> None:
    path.write_text("notes")
    result = run(path, "create", "--tenant", "bank", "--role", "verify")
    assert (result.exit_code, result.stdout) == (2, "")
    assert path.read_text() == "notes"


def test_the_audit_trail_tells_of_every_change_before_and_after(path: Path, tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    shown = ("--audit", str(audit))
    key = create(path, *shown)
    new = made(path, "rotate", key.split("_")[1], *shown)
    run(path, "revoke", key.split("_")[1], *shown)
    run(path, "revoke", "0000", *shown)
    text = "".join(file.read_text() for file in sorted(audit.glob("*.jsonl")))
    entries = [json.loads(line) for line in text.splitlines()]
    ids = [key.split("_")[1], new.split("_")[1], key.split("_")[1]]
    assert [(each["detail"]["entry"], each["outcome"]) for each in entries] == [
        (entry_id, outcome) for entry_id in ids for outcome in ("BEGUN", "DONE")
    ]
    assert {(each["action"], each["tenant"], each["detail"]["roles"]) for each in entries} == {
        ("key", "bank", "verify")
    }
    assert not [secret for secret in (key, new) if secret.split("_")[2] in text]


def test_nothing_changes_where_the_trail_cannot_be_written(path: Path, tmp_path: Path) -> None:
    create(path)
    before = path.read_bytes()
    (tmp_path / "audit").write_text("no folder")
    shown = ("--audit", str(tmp_path / "audit"))
    result = run(path, "create", "--tenant", "bank", "--role", "verify", *shown)
    assert (result.exit_code, result.stdout) == (2, "")
    assert path.read_bytes() == before
