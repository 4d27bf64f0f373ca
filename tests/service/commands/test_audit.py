"""`sayso audit` on trails as they are, and on trails that were tampered with."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.audit.entries import Action, Event
from service.audit.subjects import Subjects
from service.audit.volumes import Volumes
from service.commands.audit import app

AT = 1_700_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    subjects = Subjects.open(tmp_path / "audit.key")
    trail = Volumes(tmp_path / "audit", key=subjects.signing_key, max_bytes=700)
    trail.open()
    for n in range(8):
        subject = subjects.make_pseudonym("t", "alice" if n % 2 else "bob")
        event = Event(Action.VERIFY, "ACCEPTED", tenant="t", subject=subject, request_id=f"{n}")
        trail.append([event], at=AT + n, durable=True)
    trail.close()
    return tmp_path / "audit"


def sayso(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def digest_of_the_end(folder: Path) -> str:
    return sayso("tail", folder).stderr.split()[-1]


def test_a_whole_trail(folder: Path) -> None:
    result = sayso("verify", folder)
    assert result.exit_code == 0
    assert "8 entries, 1 to 8" in result.stdout
    assert digest_of_the_end(folder) in result.stdout
    assert sayso("verify", *sorted(folder.glob("*.jsonl"))).exit_code == 0


def test_a_broken_one_names_file_and_line(folder: Path) -> None:
    file = folder / "audit-000001.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0].replace(b"ACCEPTED", b"REJECTED"), *lines[1:]]))
    result = sayso("verify", folder)
    assert result.exit_code == 1
    assert "audit-000001.jsonl:1:" in result.stderr.replace("\n", "")


def test_what_is_missing_at_the_end_needs_a_known_head(folder: Path) -> None:
    head = digest_of_the_end(folder)
    last = max(folder.glob("*.jsonl"))
    last.write_bytes(b"".join(last.read_bytes().splitlines(keepends=True)[:-1]))
    assert sayso("verify", folder).exit_code == 0
    result = sayso("verify", folder, "--head", head)
    assert result.exit_code == 1
    assert "cut off" in result.stderr


def test_finding_a_speaker(folder: Path) -> None:
    key = folder.parent / "audit.key"
    result = sayso("find", folder, "--speaker", "alice", "--tenant", "t", "--key", key)
    assert result.exit_code == 0
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [fact["request_id"] for fact in found] == ["1", "3", "5", "7"]


def test_finding_nobody(folder: Path) -> None:
    key = folder.parent / "audit.key"
    for arguments in (("carol", "t"), ("alice", "default")):
        speaker, tenant = arguments
        result = sayso("find", folder, "--speaker", speaker, "--tenant", tenant, "--key", key)
        assert (result.exit_code, result.stdout) == (1, "")


def test_finding_without_the_key(folder: Path) -> None:
    result = sayso("find", folder, "--speaker", "alice", "--key", folder / "none.key")
    assert result.exit_code == 2
    assert not (folder / "none.key").exists()


def test_the_end(folder: Path) -> None:
    result = sayso("tail", folder, "-n", "3")
    assert [json.loads(line)["request_id"] for line in result.stdout.splitlines()] == list("567")
