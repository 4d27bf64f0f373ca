"""A trail that somebody without its key wrote anew, or cut off, does not pass for the original."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sayso import NotFound
from typer.testing import CliRunner, Result

from service.audit.entries import START, Action, Event, make_entry, parse_line
from service.commands.application import app
from tests.support.local_server import LocalServer
from tests.support.sayso_server import SaysoServer

PATIENCE_S = 20.0


def sayso(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "heads"


@pytest.fixture
def trail(tmp_path: Path, heads: Path) -> Iterator[Path]:
    """The file of a trail that a server kept, of the deletions of ten who were not there."""
    heads.parent.mkdir()
    store, folder = f"sqlite:///{tmp_path}/sayso.db", tmp_path / "audit"
    with (
        LocalServer(
            store=store, audit=folder, audit_heads=heads, audit_heads_every_s=0.05
        ) as server,
        server.client() as client,
    ):
        for n in range(10):
            with pytest.raises(NotFound):
                client.speakers.delete(f"speaker-{n}")
    yield folder / "audit-000001.jsonl"


def test_a_trail_as_the_server_left_it(trail: Path, heads: Path) -> None:
    result = sayso("verify", trail.parent, "--heads", heads)
    assert result.exit_code == 0, result.output
    assert "whole: 20 entries" in result.output


def test_one_written_anew_without_the_key(trail: Path) -> None:
    """The chain is right, and every digest: only the key is missing."""
    head, forged = START, []
    for line in trail.read_bytes().splitlines()[:-2]:
        facts = parse_line(line)
        assert facts is not None
        event = Event(Action(facts["action"]), facts["outcome"], tenant=facts["tenant"])
        entry = make_entry(event, head, time.time(), b"not the key")
        forged.append(entry.line)
        head = entry.head
    trail.write_bytes(b"".join(forged))
    assert sayso("verify", trail.parent, "--chain-only").exit_code == 0
    result = sayso("verify", trail.parent)
    assert result.exit_code == 1
    assert "not written with this key" in result.output.replace("\n", " ")


def test_one_without_codes_written_anew(trail: Path) -> None:
    """As trails were before they had codes."""
    trail.write_bytes(json.dumps({"seq": 1, "prev": "0" * 64, "action": "verify"}).encode() + b"\n")
    assert sayso("verify", trail.parent).exit_code == 1


def test_without_the_key_nothing_is_promised(trail: Path) -> None:
    trail.parent.with_suffix(".key").unlink()
    result = sayso("verify", trail.parent)
    assert result.exit_code == 2
    assert "--chain-only" in result.output


def test_one_that_was_cut_off_is_found_by_the_heads_told(trail: Path, heads: Path) -> None:
    lines = trail.read_bytes().splitlines(keepends=True)
    trail.write_bytes(b"".join(lines[:-2]))
    assert sayso("verify", trail.parent).exit_code == 0
    result = sayso("verify", trail.parent, "--heads", heads)
    assert result.exit_code == 1
    assert "cut off" in result.output


def test_heads_are_in_the_log_by_default(tmp_path: Path) -> None:
    with (
        SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db", audit=tmp_path / "audit") as server,
        server.client() as client,
    ):
        with pytest.raises(NotFound):
            client.speakers.delete("nobody")
        log = tmp_path / "server.log"
        log.write_text(server.terminate())
    assert "audit head 2 " in log.read_text()
    trail = tmp_path / "audit" / "audit-000001.jsonl"
    trail.write_bytes(trail.read_bytes().splitlines(keepends=True)[0])
    assert sayso("verify", trail.parent, "--heads", log).exit_code == 1
