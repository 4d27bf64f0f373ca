"""Redis as `deploy/redis` starts it: durable, never evicting, and its users can do what they must.

The store's own conformance tests run here once more, as the user of `users.acl`.
"""

import importlib.util
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from tests.support.redis_server import RedisServer, _binary, free_port

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "redis"
STORE_TESTS = ROOT / "tests" / "service" / "store"
PASSWORD = secrets.token_hex(32)
_START_S = 20.0
_REFUSED = r"no permissions|script can"


def _load(path: Path) -> dict[str, object]:
    spec = importlib.util.spec_from_file_location(f"again_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


# Fixtures and tests of the store, defined here again; `address` below takes the place of theirs.
for _name in ("conftest", "test_conformance", "test_groups", "test_failures"):
    _found = _load(STORE_TESTS / f"{_name}.py")
    globals().update(
        {
            name if not name.startswith("test_") else f"{_name}_{name[5:]}": value
            for name, value in _found.items()
            if not name.startswith("_")
        }
    )


@dataclass(frozen=True, slots=True)
class Started:
    """A server that `start.sh` runs."""

    port: int

    def client(self, username: str = "sayso", password: str = PASSWORD) -> redis.Redis:
        return redis.Redis(
            port=self.port, username=username, password=password, retry=Retry(NoBackoff(), 0)
        )

    @property
    def url(self) -> str:
        return f"redis://sayso:{PASSWORD}@127.0.0.1:{self.port}/0"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    _binary()
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "password").write_text(f"{PASSWORD}\n")
    server = Started(free_port())
    with subprocess.Popen(
        [
            *(FOLDER / "start.sh", "--port", str(server.port), "--bind", "127.0.0.1"),
            *("--dir", folder, "--loglevel", "warning"),
        ],
        env={**os.environ, "PASSWORD_FILE": str(folder / "password"), "TMPDIR": str(folder)},
    ) as process:
        try:
            _wait_for(server, process)
            yield server
        finally:
            process.kill()


def _wait_for(server: Started, process: subprocess.Popen[bytes]) -> None:
    """As compose.yaml's health check asks."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with server.client("probe", "any") as client:
                assert client.ping()
            return
        except redis.ConnectionError:
            assert process.poll() is None, "start.sh ended"
            assert time.monotonic() < deadline, "start.sh did not start a server"
            time.sleep(0.02)


def read_rules(user: str) -> list[str]:
    lines = (FOLDER / "users.acl").read_text().splitlines()
    return {words[1]: words[2:] for words in map(str.split, lines)}[user]


def list_commands() -> set[str]:
    """The commands that the server may use, in capitals, subcommands after a space."""
    return {rule[1:].replace("|", " ").upper() for rule in read_rules("sayso") if rule[0] == "+"}


@pytest.fixture(params=["single", "cluster"])
def address(request: pytest.FixtureRequest) -> str:
    """In place of that of the store's tests: as the user of users.acl."""
    if request.param == "single":
        server: Started = request.getfixturevalue("started")
        return server.url
    nodes: list[RedisServer] = request.getfixturevalue("cluster")
    mine = [rule for rule in read_rules("sayso") if rule[0] != "#"]
    for node in nodes:
        reply = node.command("ACL", "SETUSER", "sayso", *mine, f">{PASSWORD}")
        assert reply.startswith(b"+OK"), reply
    first, second, *_ = (node.port for node in nodes)
    return f"redis+cluster://sayso:{PASSWORD}@127.0.0.1:{first},127.0.0.1:{second}"


def test_the_user_may_run_what_the_store_sends_and_no_more() -> None:
    source = "".join(path.read_text() for path in (ROOT / "service/store/redis").glob("*.py"))
    scripts = set(re.findall(r"redis\.call\(\s*'([A-Z]+)'", source))
    assert scripts
    assert scripts <= list_commands()
    called = re.findall(r"(?:client|pipeline)\.([a-z]+)|\"(z[a-z]+)\"", source)
    methods = {name.upper() for names in called for name in names}
    lines = set(re.findall(r"b\"([A-Z]{3,})\"", source))
    connecting = {"AUTH", "COMMAND", "CLUSTER SLOTS", "PING", "SELECT"}
    assert list_commands() - scripts - methods - lines - connecting == set()


def test_without_the_password_only_a_ping_is_answered(started: Started) -> None:
    with started.client("probe", "any") as probe, pytest.raises(NoPermissionError):
        probe.get("sayso:{default}:speakers")
    for guess in (started.client("default", ""), started.client(password="0" * 64)):
        with guess, pytest.raises(AuthenticationError):
            guess.ping()


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "another", "1"),
        ("GET", "another"),
        ("EVAL", "return redis.call('GET', 'another')", "0"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("MONITOR",),
        ("SAVE",),
        ("REPLICAOF", "NO", "ONE"),
        ("SHUTDOWN",),
        ("SCRIPT", "FLUSH"),
        ("SUBSCRIBE", "any"),
    ],
    ids=" ".join,
)
def test_the_server_s_user_may_do_nothing_else(started: Started, command: tuple[str, ...]) -> None:
    with (
        started.client() as client,
        pytest.raises(ResponseError, match=_REFUSED),
    ):
        client.execute_command(*command)


def test_the_password_is_only_kept_as_a_digest(started: Started) -> None:
    with started.client() as client:
        assert client.ping()
    shown = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True)
    assert PASSWORD not in shown.stdout


@pytest.mark.parametrize("password", ["", "short"])
def test_a_short_password_is_refused(tmp_path: Path, password: str) -> None:
    (tmp_path / "password").write_text(password)
    ended = subprocess.run(
        [FOLDER / "start.sh", "--port", "0"],
        env={**os.environ, "PASSWORD_FILE": str(tmp_path / "password")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "fewer than 32 characters" in ended.stderr
