"""`sayso tenants` on a real store, as an operator runs it."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.commands.tenants import app
from service.sealing import LocalMaster, Sealing
from service.settings import SealingOptions
from service.store import Page, Speaker, SpeakerState, open_store
from tests.support.master_keys import new_key
from tests.support.redis_server import RedisServer

Sayso = Callable[..., Result]

TENANTS = ("bank", "shop")


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/voices.db"
    server = request.getfixturevalue("redis")
    return str(server.url)


@pytest.fixture
def redis(tmp_path: Path):  # noqa: ANN201
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "master.key"
    path.touch(mode=0o600)
    path.write_text(f"{new_key()}\n")
    return path


@pytest.fixture
def sayso(address: str, key_file: Path) -> Sayso:
    """`sayso tenants ...` with this store and, unless `key` says otherwise, this master key."""
    asyncio.run(_enrol(address))

    def run(*words: str, key: Path | None = key_file, answer: str | None = None) -> Result:
        environment = {"SAYSO_STORE": address, "COLUMNS": "120"}
        if key is not None:
            environment["SAYSO_MASTER_KEY_FILE"] = str(key)
        return CliRunner().invoke(app, list(words), env=environment, input=answer)

    return run


async def _enrol(address: str) -> None:
    async with open_store(address, timeout_s=10.0) as store:
        for tenant in TENANTS:
            for number in range(3):
                speaker = Speaker(tenant, str(number), SpeakerState.PENDING, 1.0, 1.0)
                await store.put(speaker, expected_etag=None)


def listed(sayso: Sayso) -> dict[str, tuple[str, str]]:
    result = sayso("list")
    assert result.exit_code == 0
    rows = [re.split(r"\s*│\s*", line)[1:-1] for line in result.stdout.splitlines() if "│" in line]
    return {tenant: (speakers, by) for tenant, speakers, by in rows}


def read(address: str, tenant: str, key_file: Path) -> Page:
    sealing = Sealing(LocalMaster.from_file(key_file), SealingOptions(sealed_only=True))

    async def page() -> Page:
        async with open_store(address, timeout_s=10.0, sealing=sealing) as store:
            return await store.list(tenant, limit=10)

    return asyncio.run(page())


def test_seal_and_list(sayso: Sayso, address: str, key_file: Path) -> None:
    assert listed(sayso) == {"bank": ("3", "nothing"), "shop": ("3", "nothing")}
    assert "3 speakers were sealed" in sayso("seal", "bank").stdout
    assert listed(sayso) == {"bank": ("3", "key 1"), "shop": ("3", "nothing")}
    assert "3 speakers were sealed" in sayso("seal", "--all").stdout
    assert "0 speakers were sealed" in sayso("seal", "--all").stdout
    assert listed(sayso) == {"bank": ("3", "key 1"), "shop": ("3", "key 1")}
    for tenant in TENANTS:
        assert len(read(address, tenant, key_file).speakers) == 3


@pytest.mark.parametrize("words", [("seal",), ("seal", "bank", "--all")])
def test_seal_wants_a_tenant_or_all(sayso: Sayso, words: tuple[str, ...]) -> None:
    result = sayso(*words)
    assert result.exit_code == 2
    assert "--all" in result.stderr


@pytest.mark.parametrize("words", [("seal", "--all"), ("rotate-key", "bank"), ("rewrap",)])
def test_no_master_key(sayso: Sayso, words: tuple[str, ...]) -> None:
    result = sayso(*words, key=None)
    assert result.exit_code == 2
    assert "SAYSO_MASTER_KEY_FILE" in result.stderr


def test_rotate(sayso: Sayso, address: str, key_file: Path) -> None:
    sayso("seal", "bank")
    assert "3 speakers were sealed by the new key" in sayso("rotate-key", "bank").stdout
    assert listed(sayso)["bank"] == ("3", "key 2")
    assert len(read(address, "bank", key_file).speakers) == 3


def test_rewrap_lets_an_old_master_key_go(sayso: Sayso, address: str, key_file: Path) -> None:
    sayso("seal", "--all")
    new = new_key()
    key_file.write_text(f"{key_file.read_text()}{new}\n")
    assert "2 keys are wrapped" in sayso("rewrap").stdout
    key_file.write_text(f"{new}\n")
    assert len(read(address, "shop", key_file).speakers) == 3


def test_erase(sayso: Sayso) -> None:
    sayso("seal", "--all")
    refused = sayso("erase-key", "bank", answer="n\n", key=None)
    assert refused.exit_code == 1
    assert listed(sayso)["bank"] == ("3", "key 1")
    done = sayso("erase-key", "bank", answer="y\n", key=None)
    assert "the keys of bank are destroyed, and 3 speakers deleted" in done.stdout
    assert listed(sayso) == {"bank": ("0", "erased"), "shop": ("3", "key 1")}
    assert sayso("seal", "--all").exit_code == 0
    assert "erased" in sayso("seal", "bank").stderr
    assert sayso("erase-key", "shop", "--yes", key=None).exit_code == 0
    assert sayso("rotate-key", "bank").exit_code == 0
    assert listed(sayso) == {"bank": ("0", "key 2"), "shop": ("0", "erased")}


def test_the_audit_trail_tells_of_what_an_operator_does(
    sayso: Sayso, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYSO_AUDIT", str(tmp_path / "audit"))
    assert sayso("rotate-key", "bank").exit_code == 0
    assert sayso("erase-key", "shop", "--yes").exit_code == 0
    lines = (tmp_path / "audit" / "audit-000001.jsonl").read_text().splitlines()
    told = [(e["outcome"], e["tenant"], e["detail"]["change"]) for e in map(json.loads, lines)]
    assert told == [
        ("BEGUN", "bank", "rotate-key"),
        ("DONE", "bank", "rotate-key"),
        ("BEGUN", "shop", "erase-key"),
        ("DONE", "shop", "erase-key"),
    ]
