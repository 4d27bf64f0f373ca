"""An installation that cannot serve says what to correct, in one line, and exits with 2."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from sayso_server import SaysoServer, ServerFailed

from service.settings import SHIPPED_MODEL


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
    ],
)
def test_bad_settings(tmp_path: Path, settings: dict[str, object], hint: str) -> None:
    assert hint in _message(tmp_path, **settings)


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
