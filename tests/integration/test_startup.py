"""An installation that cannot serve says what to correct, in one line, and exits with 2."""

import datetime as dt
import hashlib
import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from service.commands.application import app
from service.contract import METADATA_KEY
from service.errors import StartupError
from service.server import open_server
from service.settings import SHIPPED_MODEL, Settings
from tests.support.certificates import LOCAL, Authority
from tests.support.sayso_server import ROOT, SaysoServer, ServerFailed
from tests.support.voices import clips


def _message(tmp_path: Path, **settings: object) -> str:
    arguments = {"store": f"sqlite:///{tmp_path / 'sayso.db'}", **settings}
    server = SaysoServer(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ServerFailed) as caught, server:
        pass
    assert server.process.returncode == 2
    message = str(caught.value)
    assert message.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in message
    return message


def test_a_missing_model(tmp_path: Path) -> None:
    assert "nowhere.onnx" in _message(tmp_path, model=tmp_path / "nowhere.onnx")


def test_a_corrupt_model(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(SHIPPED_MODEL.read_bytes()[:-5000])
    assert "broken.onnx" in _message(tmp_path, model=broken)


def test_a_model_of_another_contract_version(tmp_path: Path) -> None:
    old = tmp_path / "old.onnx"
    found = SHIPPED_MODEL.read_bytes()
    assert found.count(b'"schema_version": 1') == 1
    old.write_bytes(found.replace(b'"schema_version": 1', b'"schema_version": 9'))
    assert "schema version 9" in _message(tmp_path, model=old)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"store": "postgres://db"}, "sqlite://"),
        ({"store": "sqlite:////nowhere/at/all/sayso.db"}, "/nowhere/at/all"),
        ({"listen": "no-port"}, "host:port"),
        ({"max_batch": -1}, "SAYSO_MAX_BATCH"),
        ({"target_false_match_rate": 2}, "SAYSO_TARGET_FALSE_MATCH_RATE"),
        ({"target_false_match_rate": 0.5}, "SAYSO_TARGET_FALSE_MATCH_RATE: the model's"),
        ({"min_snr_db": "nan"}, "SAYSO_MIN_SNR_DB"),
        ({"keyss": "/etc/keys.json"}, "SAYSO_KEYSS is no setting; did you mean SAYSO_KEYS?"),
        ({"xylophone": 1}, "SAYSO_XYLOPHONE is no setting; unset it, and `sayso info`"),
        ({"keys": ""}, "SAYSO_KEYS is empty"),
        ({"master_key_file": ""}, "SAYSO_MASTER_KEY_FILE is empty"),
        ({"master_keys": ""}, "SAYSO_MASTER_KEYS is empty"),
        ({"audit": ""}, "SAYSO_AUDIT is empty"),
        ({"listen": "127.0.0.1:70000"}, "SAYSO_LISTEN: 70000 is no port"),
    ],
)
async def test_bad_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], hint: str
) -> None:
    """In this process, which starts a server sooner; the tests around it see the command end."""
    chosen = {"store": f"sqlite:///{tmp_path / 'sayso.db'}", "listen": "127.0.0.1:0", **settings}
    for name, value in chosen.items():
        monkeypatch.setenv(f"SAYSO_{name.upper()}", str(value))
    with pytest.raises(StartupError, match=re.escape(hint)):
        async with open_server(Settings.read()):
            pass


def test_a_bad_setting_of_the_process(tmp_path: Path) -> None:
    message = _message(tmp_path, metrics_listen="127.0.0.1:70000")
    assert "SAYSO_METRICS_LISTEN: 70000 is no port" in message


def test_a_store_that_is_no_database_is_left_untouched(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "sayso.db")
    before = (tmp_path / "sayso.db").read_bytes()
    assert "sayso.db" in _message(tmp_path)
    assert (tmp_path / "sayso.db").read_bytes() == before


def test_a_store_of_a_newer_schema(tmp_path: Path) -> None:
    with SaysoServer(store=f"sqlite:///{tmp_path / 'sayso.db'}"):
        pass
    database = sqlite3.connect(tmp_path / "sayso.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    assert "99" in _message(tmp_path)


def test_a_port_in_use(tmp_path: Path) -> None:
    with SaysoServer(store=f"sqlite:///{tmp_path / 'first.db'}") as first:
        assert first.address in _message(tmp_path, listen=first.address)


def test_what_orchestrators_put_beside_it_is_no_mistake(tmp_path: Path) -> None:
    """The links to a Kubernetes service that is called sayso."""
    links: dict[str, Any] = {
        "service_host": "10.0.0.7",
        "service_port_grpc": 50051,
        "port": "tcp://10.0.0.7:50051",
        "port_50051_tcp_addr": "10.0.0.7",
    }
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db", **links) as server:
        assert server.address


@pytest.mark.parametrize("encoded", ["p/a", "p?a", "p#a", "p@a/", "p:a?b", "p[a"])
def test_no_error_shows_the_password_of_the_store(tmp_path: Path, encoded: str) -> None:
    secret = f"{encoded}hunter2"
    message = _message(tmp_path, store=f"redis://sayso:{secret}@127.0.0.1:1/0")
    assert "Redis address" in message
    assert "hunter2" not in message


def test_what_info_and_the_log_show_of_the_store(tmp_path: Path) -> None:
    store = "redis://sayso:hunter%2F2@127.0.0.1:1/0"
    said = subprocess.run(
        [sys.executable, "-m", "service", "info"],
        cwd=ROOT,
        env={**os.environ, "SAYSO_STORE": store, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "redis://***@127.0.0.1:1/0" in said.stdout
    assert "hunter" not in said.stdout + said.stderr
    with SaysoServer(store=store) as server:
        log = server.terminate()
    assert "store redis://***@127.0.0.1:1/0" in log
    assert "hunter" not in log


def test_the_banner_says_what_was_left_open(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"audit": tmp_path / "audit", "tenant_streams": 3}
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db", **settings) as server:
        (banner,) = [line for line in server.log.splitlines() if " started: " in line]
    for fact in (
        "threshold LLR",
        "false-match rate",
        f"store sqlite:///{tmp_path}/sayso.db",
        "TLS none",
        "callers ANYONE of this machine",
        "voices not sealed",
        f"audit {tmp_path}/audit",
        "lock after 5 failures",
        "limits of a tenant 3 calls at once",
    ):
        assert fact in banner, banner


def test_a_rate_below_those_measured_is_kept_by_an_upper_bound(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/sayso.db"
    with (
        SaysoServer(store=store, target_false_match_rate=1e-5) as server,
        server.client() as sayso,
    ):
        for clip in clips("slt", "enroll"):
            sayso.enroll("slt", clip)
        decision = sayso.verify("slt", clips("slt", "verify")[0])
    assert decision.threshold_llr == pytest.approx(math.log(1e5), abs=1e-3)
    assert (
        "below the lowest measured, 0.0001, so by an upper bound" in decision.threshold_description
    )
    assert "threshold LLR 11.51" in server.log


@pytest.fixture
def uncalibrated(tmp_path: Path) -> Path:
    model = onnx.load(SHIPPED_MODEL)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            document = json.loads(entry.value)
            entry.value = json.dumps(document | {"calibration": None, "operating_point": None})
    onnx.save(model, tmp_path / "uncalibrated.onnx")
    return tmp_path / "uncalibrated.onnx"


def test_a_model_that_can_verify_nothing_is_refused(tmp_path: Path, uncalibrated: Path) -> None:
    assert "--allow-uncalibrated" in _message(tmp_path, model=uncalibrated)
    digest = hashlib.sha256(uncalibrated.read_bytes()).hexdigest()
    uncalibrated.with_name(f"{uncalibrated.name}.sha256").write_text(
        f"{digest}  {uncalibrated.name}\n"
    )
    said = CliRunner().invoke(app, ["models", "verify", str(uncalibrated)])
    assert said.exit_code == 1
    assert "no calibration" in said.output


def test_one_that_is_allowed_serves_all_but_verification(
    tmp_path: Path, uncalibrated: Path
) -> None:
    store = f"sqlite:///{tmp_path}/sayso.db"
    with SaysoServer(store=store, model=uncalibrated, allow_uncalibrated=True) as server:
        with grpc.insecure_channel(server.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            states = {
                name: stub.Check(health_pb2.HealthCheckRequest(service=name)).status
                for name in ("", "sayso.v1.VerificationService", "sayso.v1.SpeakerService")
            }
        with server.client() as sayso:
            assert sayso.embed(clips("slt", "verify")[0]) is not None
    serving = health_pb2.HealthCheckResponse.SERVING
    not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
    assert list(states.values()) == [serving, not_serving, serving]
    assert "threshold NONE: the model is not calibrated" in server.log


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("server", LOCAL, lasts=dt.timedelta(seconds=-1))
    message = _message(tmp_path, tls_certificate=pair.certificate, tls_key=pair.key)
    assert "expired on" in message


def test_a_certificate_that_no_client_could_shake_hands_with(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pair = Authority(tmp_path).issue("server", LOCAL, key=key)
    message = _message(tmp_path, tls_certificate=pair.certificate, tls_key=pair.key)
    assert "Ed25519" in message


def test_a_certificate_that_expires_soon_is_announced(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("server", LOCAL)
    settings: dict[str, Any] = {"tls_certificate": pair.certificate, "tls_key": pair.key}
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db", **settings) as server:
        assert "server.crt.pem expires in 1.0 days" in server.log
