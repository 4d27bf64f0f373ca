"""Every command with `--json`, against a real server, store, trail and key file."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.commands.application import app
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from service.store import Speaker, SpeakerState, open_store
from tests.service.commands.test_application import LEAVES, ROOT
from tests.support.local_server import LocalServer
from tests.support.master_keys import new_key
from tests.support.stand_in import save_stand_in
from tests.support.voices import FOLDER, clips
from tests.support.webhook_receiver import receive, write_webhooks

POLICIES = '[payments]\ndescription = "transfers"\ntarget_false_match_rate = 0.005\n'


class Machine:
    """A server and what else the commands work on; remembers which commands it has run."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.has_run: set[tuple[str, ...]] = set()
        self._environment = {
            "COLUMNS": "80",
            "SAYSO_KEYS": str(folder / "keys.json"),
            "SAYSO_MASTER_KEY_FILE": str(folder / "master.key"),
            "SAYSO_STORE": f"sqlite:///{folder}/sealed.db",
            "SAYSO_GATEWAY_WEBHOOKS": str(folder / "webhooks.toml"),
            "SAYSO_GATEWAY_STATE": str(folder / "gateway.db"),
        }
        self._server = address

    def run(self, *words: object, status: int = 0, server: bool = False) -> list[dict[str, Any]]:
        """The objects that a command prints."""
        said = tuple(map(str, words))
        asked = [*said, "--json", *(["--server", self._server] if server else [])]
        ended = CliRunner(env=self._environment).invoke(app, asked)
        assert ended.exit_code == status, (asked, ended.output, ended.exception)
        self.has_run |= {said[:1], said[:2], said[:3]} & set(LEAVES)
        objects = [json.loads(line) for line in ended.stdout.splitlines()]
        assert all(isinstance(each, dict) for each in objects)
        return objects

    def ask(self, *words: object, status: int = 0) -> list[dict[str, Any]]:
        """The objects that a command prints that asks the server."""
        return self.run(*words, status=status, server=True)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "policies.toml").write_text(POLICIES)
    (folder / "master.key").touch(mode=0o600)
    (folder / "master.key").write_text(f"{new_key()}\n")
    with LocalServer(
        store=f"sqlite:///{folder}/sayso.db",
        audit=folder / "audit",
        policies=folder / "policies.toml",
        lock_after_failures=0,
    ) as server:
        yield Machine(folder, server.address)


def test_voices(machine: Machine) -> None:
    for name in ("slt", "awb"):
        *_, last = machine.ask("enroll", name, *clips(name, "enroll"))
        assert last["stored"]
        assert last["speaker"]["state"] == "ENROLLED"
    genuine, impostor = clips("slt", "verify")[0], clips("rms", "verify")[0]
    made = machine.ask("verify", "slt", genuine, impostor, "--policy", "payments", status=1)
    assert [each["outcome"] for each in made] == ["ACCEPTED", "REJECTED"]
    assert [each["recording"] for each in made] == [str(genuine), str(impostor)]
    assert len({each["decision_id"] for each in made}) == 2
    assert made[0]["threshold_source"] == "POLICY"
    assert made[0]["decided_at"].endswith("+00:00")
    spoilt = machine.folder / "spoilt.wav"
    spoilt.write_bytes(b"no audio")
    (unread,) = machine.ask("verify", "slt", spoilt, status=2)
    assert set(unread) == {"recording", "error"}


def test_a_request_id_enrolls_once(machine: Machine) -> None:
    asked = ("enroll", "once", clips("rms", "enroll")[0], "--request-id", "r-1")
    (first,) = machine.ask(*asked)
    (again,) = machine.ask(*asked)
    assert first["net_speech_s"] == again["net_speech_s"]
    assert again["stored"]
    machine.ask("enroll", "once", *clips("rms", "enroll"), "--request-id", "r-2", status=2)


def test_a_manifest(machine: Machine) -> None:
    manifest = machine.folder / "voices.csv"
    rows = [f"batch,{clip}" for clip in clips("rms", "enroll")]
    manifest.write_text("\n".join(["speaker_id,path", *rows]) + "\n")
    outcomes = machine.ask("enroll", "--manifest", manifest)
    assert [each["status"] for each in outcomes] == ["enrolled"] * len(rows)
    assert machine.ask("enroll", "--manifest", manifest) == []


def test_groups(machine: Machine) -> None:
    (made,) = machine.ask("groups", "create", "all", "--description", "[bold]everyone :smile:")
    assert (made["name"], made["members"]) == ("all", 0)
    assert made["description"] == "[bold]everyone :smile:"
    (added,) = machine.ask("groups", "add", "all", "slt", "awb")
    assert added["members"] == 2
    assert machine.ask("groups", "members", "all") == [{"speaker_id": "awb"}, {"speaker_id": "slt"}]
    (answer,) = machine.ask("identify", "all", clips("slt", "verify")[0], "--policy", "payments")
    assert answer["decision"]["decision_id"]
    assert answer["candidates"][0]["speaker_id"] == "slt"
    (removed,) = machine.ask("groups", "remove", "all", "awb")
    assert removed["members"] == 1
    (described,) = machine.ask("groups", "describe", "all", "who calls")
    assert machine.ask("groups", "get", "all") == machine.ask("groups", "list") == [described]
    assert described["description"] == "who calls"
    assert machine.ask("groups", "delete", "all") == [{"name": "all", "deleted": True}]


def test_events(machine: Machine) -> None:
    machine.ask("verify", "slt", clips("slt", "verify")[0])
    (ended,) = machine.ask("events", "--from-oldest", "--type", "call.ended", "--limit", "1")
    assert ended["type"] == "call.ended"
    assert ended["resume_token"]


def test_speakers(machine: Machine) -> None:
    machine.ask("speakers", "update", "slt", "--metadata", "branch=12", "--consent", "form 1")
    listed = [each["speaker_id"] for each in machine.ask("speakers", "list")]
    assert listed == sorted(listed)
    assert {"slt", "awb"} <= set(listed)

    def filtered(*options: str) -> list[str]:
        return [each["speaker_id"] for each in machine.ask("speakers", "list", *options)]

    (shown,) = machine.ask("speakers", "show", "slt")
    assert filtered("--metadata", "branch=12", "--state", "enrolled") == ["slt"]
    assert filtered("--metadata", "branch=13") == filtered("--state", "OPTED_OUT") == []
    assert filtered("--model", shown["model_ids"][0]) == listed
    assert filtered("--model", "another") == filtered("--expires-before", "2020-01-01") == []
    assert filtered("--expires-before", "2120-01-01T00:00:00") == listed
    assert machine.ask("speakers", "migrate", "--status")[0]["share"] == 1.0
    (record,) = machine.ask("speakers", "export", "slt")
    assert record["speaker"]["speaker_id"] == "slt"
    assert machine.ask("speakers", "unlock", "slt") == [{"speaker_id": "slt", "unlocked": True}]
    assert machine.ask("speakers", "withdraw-consent", "slt")[0]["state"] == "WITHOUT_CONSENT"
    machine.ask("enroll", "new", clips("rms", "enroll")[0], "--confirm", "--consent", "form 2")
    assert machine.ask("speakers", "confirm", "new")[0]["state"] == "ENROLLED"
    assert machine.ask("speakers", "undo", "new")[0]["state"] == "PENDING"
    assert machine.ask("speakers", "opt-out", "new")[0]["state"] == "OPTED_OUT"
    assert machine.ask("speakers", "opt-in", "new")[0]["state"] == "PENDING"
    (receipt,) = machine.ask("speakers", "delete", "new")
    assert receipt["speaker_id"] == "new"
    (entry,) = machine.run(
        "audit", "find", machine.folder / "audit", "--speaker", "new",
        "--key", machine.folder / "audit.key",
    )[-1:]  # fmt: skip
    assert entry["action"] == "delete"


def test_the_audit_trail(machine: Machine) -> None:
    (whole,) = machine.run("audit", "verify", machine.folder / "audit")
    assert whole["whole"]
    (last,) = machine.run("audit", "tail", machine.folder / "audit", "-n", "1")
    assert last["seq"] == whole["last"]
    (broken,) = machine.run(
        "audit", "verify", machine.folder / "audit", "--head", "0" * 64, status=1
    )
    assert not broken["whole"]


def test_the_server_and_this_machine(machine: Machine) -> None:
    assert machine.ask("health") == [{"ready": True, "cause": ""}]
    (told,) = machine.ask("info")
    assert told["policies"] == ["payments"]
    assert told["models"][0]["dimension"] == 192
    assert {"audit"} <= set(told["features"])
    (here,) = machine.run("info")
    assert here["settings"]["SAYSO_STORE"] == f"sqlite:///{machine.folder}/sealed.db"
    (settings,) = machine.run("info", "--env")
    assert settings == here["settings"]


def test_models(machine: Machine) -> None:
    listed = machine.run("models", "list", SHIPPED_MODEL.parent)
    (verified,) = machine.run("models", "verify", SHIPPED_MODEL)
    assert verified["sha256"] in [each["sha256"] for each in listed]
    (contract,) = machine.run("models", "show", SHIPPED_MODEL)
    assert contract["model_id"] == verified["model_id"]
    (machine.folder / "spoilt.onnx").write_bytes(b"no model")
    (spoilt,) = machine.run("models", "list", machine.folder, status=1)
    assert "spoilt.onnx" in spoilt["error"]
    checkpoint, adopted = save_stand_in(machine.folder / "random.pt"), machine.folder / "a.onnx"
    asked = ("models", "get", "campplus", "--from", checkpoint, "--output", adopted)
    (made,) = machine.run(*asked)
    assert made["model_id"].startswith("campplus-")
    assert not made["calibrated"]


def test_keys(machine: Machine) -> None:
    asked = ("keys", "create", "--tenant", "bank", "--role", "verify", "--label", "IVR, Leeds")
    (created,) = machine.run(*asked, "--expires-days", "30")
    assert created["key"].startswith(f"sayso_{created['id']}_")
    (rotated,) = machine.run("keys", "rotate", created["id"])
    assert (rotated["label"], rotated["tenant"]) == ("IVR, Leeds", "bank")
    (trusted,) = machine.run("keys", "trust", "ivr", "--tenant", "bank", "--role", "verify")
    assert trusted["certificate"] == "ivr"
    (revoked,) = machine.run("keys", "revoke", rotated["id"])
    assert revoked["state"] == "revoked"
    listed = {each["id"]: each for each in machine.run("keys", "list")}
    assert listed.keys() == {created["id"], rotated["id"], trusted["id"]}
    assert listed[created["id"]]["created"] == created["created"]
    assert not [each for each in listed.values() if "key" in each or "sha256" in each]


def test_tenants(machine: Machine) -> None:
    async def enroll() -> None:
        store = f"sqlite:///{machine.folder}/sealed.db"
        async with open_store(store, timeout_s=10.0) as voices:
            speaker = Speaker("bank", "1", SpeakerState.PENDING, 1.0, 1.0)
            await voices.put(speaker, expected_etag=None)

    asyncio.run(enroll())
    assert machine.run("tenants", "seal", "--all") == [{"sealed": 1}]
    assert machine.run("tenants", "rotate-key", "bank") == [{"sealed": 1}]
    assert machine.run("tenants", "rewrap") == [{"rewrapped": 1}]
    assert machine.run("tenants", "check") == []
    (listed,) = machine.run("tenants", "list")
    assert listed == {"tenant": "bank", "speakers": 1, "sealed_by": "key 2"}
    assert machine.run("tenants", "expire", "bank", "--yes")[0]["erased"] == 0
    assert machine.run("tenants", "erase-key", "bank", "--yes") == [{"deleted": 1}]


def test_drift(machine: Machine) -> None:
    model_id = Session.open(SHIPPED_MODEL, device="cpu").contract.model_id
    labels = f'model_id="{model_id}",outcome="ACCEPTED"'
    metrics = machine.folder / "metrics.txt"
    metrics.write_text(
        "# TYPE sayso_decision_llr histogram\n"
        f'sayso_decision_llr_bucket{{{labels},le="0"}} 1\n'
        f'sayso_decision_llr_bucket{{{labels},le="+Inf"}} 9\n'
    )
    (told,) = machine.run("drift", "--metrics", metrics)
    assert told["outcomes"]["all"]["calls"] == 9
    assert told["levels"]


def test_a_server_says_in_json_where_it_serves(machine: Machine) -> None:
    store = f"sqlite:///{machine.folder}/other.db"
    with subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--json", "--listen", "127.0.0.1:0",
         "--store", store],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        server.terminate()
    assert told["started"]["listens on"] == told["address"]
    assert told["started"]["store"] == store
    machine.has_run.add(("serve",))


def test_a_gateway_says_in_json_where_it_listens(machine: Machine) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "service", "gateway", "--json", "--listen", "127.0.0.1:0"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "SAYSO_GATEWAY_PCM": "true"},
    ) as gateway:  # fmt: skip
        assert gateway.stdout is not None
        told = json.loads(gateway.stdout.readline())
        gateway.terminate()
    assert told["address"].startswith("127.0.0.1:")
    assert told["audiosocket"] is None
    machine.has_run.add(("gateway",))


def test_migrating_from_voice_id(machine: Machine) -> None:
    clip = clips("rms", "enroll")[0]
    (machine.folder / "copy").mkdir()
    (machine.folder / "copy" / clip.name).symlink_to(clip)
    request = {
        "RequestId": "r1",
        "SpeakerId": "moved",
        "AudioSpecifications": [{"S3Uri": f"s3://calls/{clip.name}", "ChannelId": 0}],
    }
    job = machine.folder / "job.json"
    job.write_text(json.dumps({"Version": "1.0", "SpeakerEnrollmentRequests": [request]}))
    copy = machine.folder / "copy"
    (moved,) = machine.ask("migrate", "voiceid", job, "--recordings", copy)
    assert moved["speaker_id"] == "moved"


def test_webhooks(machine: Machine) -> None:
    with receive() as receiver:
        write_webhooks(machine.folder, receiver.url)
        (listed,) = machine.run("gateway", "webhooks", "list")
        assert (listed["endpoint"], listed["state"], listed["pending"]) == ("desk", "on", 0)
        (tried,) = machine.run("gateway", "webhooks", "test", "desk")
        assert tried["ok"]
    assert machine.run("gateway", "webhooks", "failures") == []
    assert machine.run("gateway", "webhooks", "replay") == [{"deliveries": 0}]
    (enabled,) = machine.run("gateway", "webhooks", "enable", "desk")
    assert enabled == {"endpoint": "desk", "was_gone": False}
    (made,) = machine.run("gateway", "webhooks", "new-secret", "--ed25519")
    assert set(made) == {"secret", "public_key"}


def test_tuning_says_in_json_what_it_kept(machine: Machine) -> None:
    output = str(machine.folder / "tuned")
    ended = subprocess.run(
        [sys.executable, "-m", "service", "tune", str(SHIPPED_MODEL), str(FOLDER), "--json",
         "--output", output],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    told = json.loads(ended.stdout)
    assert told["line"]["recordings"] == len([*FOLDER.glob("*/*.*")])
    assert told["missing"]
    machine.has_run.add(("tune",))


def test_the_demo(machine: Machine) -> None:
    for speaker in ("slt", "awb"):
        (machine.folder / "audio" / speaker).mkdir(parents=True)
        for clip in (clips(speaker, "enroll")[0], clips(speaker, "verify")[0]):
            (machine.folder / "audio" / speaker / clip.name).symlink_to(clip)
    tried = machine.run("demo", "--audio", machine.folder / "audio")
    assert [each["genuine"] for each in tried] == [True, False, True, False]
    assert {each["verdict"] for each in tried} == {"right"}


def test_no_command_was_left_out(machine: Machine) -> None:
    assert machine.has_run == set(LEAVES)
