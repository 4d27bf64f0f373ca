"""docs/migrate/: the commands of the pages do what the pages say."""

import json
import re
import shlex
from pathlib import Path

import pytest
from sayso import Client
from typer.testing import CliRunner

from service.commands.application import app
from tests.integration.test_migrate_voice_id import write_call
from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT
from tests.support.voices import clips

VOICE_ID = (ROOT / "docs/migrate/voice-id.md").read_text(encoding="utf-8")
AZURE = (ROOT / "docs/migrate/azure.md").read_text(encoding="utf-8")
SHELL = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
JSON = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(command: str, server: LocalServer) -> str:
    """What a command of a page prints."""
    program, *words = shlex.split(command)
    assert program == "sayso"
    environment = {"SAYSO_SERVER": server.address, "COLUMNS": "300"}
    done = CliRunner(env=environment).invoke(app, words)
    assert done.exit_code == 0, (command, done.output)
    return done.output


def find_inline(page: str, start: str) -> str:
    """The one command in backticks that starts so."""
    (command,) = set(re.findall(rf"`({re.escape(start)}[^`]*)`", page))
    return str(command)


def test_the_page_of_voice_id(
    sqlite_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dry_run, enroll, register = SHELL.findall(VOICE_ID)
    (job,) = JSON.findall(VOICE_ID)
    (tmp_path / "job.json").write_text(job)
    write_call(tmp_path / "copy/2025/1.wav", clips("rms", "enroll")[0], clips("slt", "enroll")[0])
    write_call(tmp_path / "copy/fraud.wav", clips("slt", "enroll")[0], clips("awb", "enroll")[0])
    audio = [{"S3Uri": "s3://calls/fraud.wav", "ChannelId": 1}]
    known = [{"RequestId": "f1", "AudioSpecifications": audio}]
    fraudsters = {"Version": "1.0", "FraudsterRegistrationRequests": known}
    (tmp_path / "fraudsters.json").write_text(json.dumps(fraudsters))
    with sqlite_server.client() as sayso:
        try:
            assert "1 speakers, 1 recordings, 0 files missing" in run(dry_run, sqlite_server)
            assert not list(sayso.speakers.list())
            run(enroll, sqlite_server)
            assert sayso.speakers.get("27-1182").consent == "terms of 2024"
            assert (tmp_path / "job.results.jsonl").exists()
            run(register, sqlite_server)
            assert list(sayso.groups.members("fraud")) == ["fraudster-f1"]
            opt_out = find_inline(VOICE_ID, "sayso speakers opt-out")
            run(opt_out.replace("ID", "27-9"), sqlite_server)
            assert sayso.speakers.get("27-9").state == "OPTED_OUT"
        finally:
            forget(sayso)


def test_the_page_of_azure(sqlite_server: LocalServer) -> None:
    with sqlite_server.client() as sayso:
        try:
            run(find_inline(AZURE, "sayso groups create"), sqlite_server)
            assert [group.name for group in sayso.groups.list()] == ["azure"]
        finally:
            forget(sayso)


def forget(sayso: Client) -> None:
    for speaker in list(sayso.speakers.list()):
        if speaker.state == "OPTED_OUT":
            sayso.speakers.opt_in(speaker.speaker_id)
        sayso.speakers.delete(speaker.speaker_id)
    for group in list(sayso.groups.list()):
        sayso.groups.delete(group.name)
