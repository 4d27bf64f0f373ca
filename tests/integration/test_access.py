"""Who may ask, of a real server: tenants that never meet, roles, and TLS, from the settings."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sayso import Client, NotFound, PermissionDenied, Tls, Unauthenticated

from service.errors import StartupError
from tests.support.certificates import LOCAL, Authority
from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT, SaysoServer

VOICE = ROOT / "demo/audio/rms/enroll-1.flac"
CALL = ROOT / "demo/audio/rms/verify-1.flac"


def sayso(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def create(keys: Path, tenant: str, *roles: str) -> str:
    chosen = [word for role in roles for word in ("--role", role)]
    return sayso("keys", "create", "--tenant", tenant, *chosen, SAYSO_KEYS=str(keys))


def server(folder: Path, **settings: Any) -> LocalServer:
    return LocalServer(store=f"sqlite:///{folder / 'sayso.db'}", **settings)


def test_the_list_of_keys_tells_when_each_was_last_used(tmp_path: Path, keys: Path) -> None:
    used, unused = (create(keys, "bank", "enroll") for _ in range(2))
    before = keys.read_bytes()
    began = datetime.now(UTC)
    with (
        server(tmp_path, keys=keys) as running,
        Client(running.address, credential=used) as ours,
        Client(running.address, credential=used[:-1] + "x") as stranger,
    ):
        assert list(ours.speakers.list()) == []
        with pytest.raises(Unauthenticated):
            stranger.speakers.get("alice")
    listed = sayso("keys", "list", "--json", SAYSO_KEYS=str(keys)).splitlines()
    uses = {each["id"]: each["last_use"] for each in map(json.loads, listed)}
    assert began <= datetime.fromisoformat(uses[used.split("_")[1]]) <= datetime.now(UTC)
    assert uses[unused.split("_")[1]] is None
    assert keys.read_bytes() == before


def test_a_tenant_never_sees_another(tmp_path: Path, keys: Path) -> None:
    bank, shop = (create(keys, tenant, "verify", "enroll", "admin") for tenant in ("bank", "shop"))
    with (
        server(tmp_path, keys=keys) as running,
        Client(running.address, credential=bank) as ours,
        Client(running.address, credential=shop) as theirs,
    ):
        ours.enroll("alice", VOICE)
        ours.groups.create("vip")
        ours.groups.add_members("vip", ["alice"])
        assert ours.verify("alice", CALL).outcome == "ACCEPTED"
        assert theirs.verify("alice", CALL).outcome == "NOT_ENROLLED"
        assert list(theirs.speakers.list()) == []
        assert list(theirs.groups.list()) == []
        for ask in (theirs.speakers.get, theirs.speakers.delete, theirs.speakers.undo):
            with pytest.raises(NotFound):
                ask("alice")
        with pytest.raises(NotFound):
            theirs.identify("vip", CALL)
        assert [each.speaker_id for each in ours.speakers.list()] == ["alice"]


def test_no_call_goes_without_a_credential_and_none_beyond_its_role(
    tmp_path: Path, keys: Path
) -> None:
    verifying = create(keys, "bank", "verify")
    store = f"sqlite:///{tmp_path / 'sayso.db'}"
    with SaysoServer(store=store, keys=keys) as running:
        with Client(running.address) as nobody:
            assert nobody.ready()
            with pytest.raises(Unauthenticated):
                nobody.verify("alice", CALL)
            with pytest.raises(Unauthenticated):
                list(nobody.verify_stream("alice", [b""]))
        with Client(running.address, credential=verifying) as sayso:
            assert sayso.verify("alice", CALL).outcome == "NOT_ENROLLED"
            with pytest.raises(PermissionDenied, match="enroll"):
                sayso.enroll("alice", VOICE)
        log = running.terminate()
    assert verifying.rpartition("_")[2] not in log


def test_commands_over_tls_with_a_key(tmp_path: Path, keys: Path) -> None:
    key, authority = create(keys, "bank", "enroll"), Authority(tmp_path)
    pair = authority.issue("server", LOCAL)
    tls = {"tls_certificate": pair.certificate, "tls_key": pair.key}
    with server(tmp_path, keys=keys, **tls) as running:
        environment = {
            "SAYSO_SERVER": running.address,
            "SAYSO_CA": str(authority.certificate),
            "SAYSO_CREDENTIAL": key,
        }
        assert "net speech" in sayso("enroll", "alice", str(VOICE), "--channel", "0", **environment)
        assert "alice" in sayso("speakers", "list", **environment)
        with Client(running.address, tls=Tls(authority.certificate)) as nobody:
            assert nobody.ready()


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"listen": "0.0.0.0:0"}, "SAYSO_INSECURE"),
        ({"keys": "/nowhere/keys.json"}, "sayso keys create"),
        ({"jwt_issuer": "https://login.bank.example"}, "SAYSO_JWKS"),
        ({"tls_key": "/nowhere/key.pem"}, "SAYSO_TLS_CERTIFICATE"),
    ],
)
def test_half_of_a_protection_does_not_start(
    tmp_path: Path, settings: dict[str, str], hint: str
) -> None:
    with pytest.raises(StartupError, match=hint), server(tmp_path, **settings):
        pass
