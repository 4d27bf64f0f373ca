"""A Redis master dies, its Sentinels make the replica the master, and the server follows."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.figures import below
from service.store import open_store
from tests.reliability.enrolling import Enrolling, kept
from tests.reliability.results import Seen
from tests.reliability.serving import RAW, server, speech, wait_until
from tests.reliability.verifying import Verifying
from tests.support.redis_server import RedisServer

SECTION = "redis"
_DOWN_MS = 500  # until a Sentinel holds a master that does not answer for down


class Group:
    """A master, its replica, and the Sentinels that watch them."""

    def __init__(self, folder: Path, stack: ExitStack, sentinels: int) -> None:
        def at(name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

        self.master = stack.enter_context(RedisServer(at("master")))
        self.master.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        replicating = ("--replicaof", "127.0.0.1", str(self.master.port))
        durable = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
        self.replica = stack.enter_context(RedisServer(at("replica"), *replicating, *durable))
        wait_until(lambda: b"state=online" in self._said(self.master, "replication"), "replicated")
        self.sentinels = []
        for number in range(sentinels):
            config = at(f"sentinel-{number}") / "sentinel.conf"
            config.write_text(self._config(sentinels // 2 + 1))
            running = RedisServer(config.parent, str(config), "--sentinel")
            self.sentinels.append(stack.enter_context(running))
        wait_until(self._ready, "watched")

    @property
    def url(self) -> str:
        nodes = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{nodes}/voices"

    def _config(self, quorum: int) -> str:
        return (
            f"sentinel monitor voices 127.0.0.1 {self.master.port} {quorum}\n"
            f"sentinel down-after-milliseconds voices {_DOWN_MS}\n"
            "sentinel failover-timeout voices 5000\n"
        )

    def _ready(self) -> bool:
        wanted = f"slaves=1,sentinels={len(self.sentinels)}".encode()
        return all(wanted in self._said(each, "sentinel") for each in self.sentinels)

    def replicated(self) -> bool:
        """What is enrolled so far; replication is not awaited by the server."""
        counted = self.master.command("DBSIZE")
        return counted != b":0\r\n" and counted == self.replica.command("DBSIZE")

    def promoted(self) -> bool:
        return f":{self.replica.port},".encode() in self._said(self.sentinels[-1], "sentinel")

    @staticmethod
    def _said(node: RedisServer, section: str) -> bytes:
        return node.command("INFO", section)


@dataclass(slots=True)
class Died:
    """Seconds and enrolments of the failovers so far."""

    refused_s: list[float] = field(default_factory=list)
    followed_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    acknowledged: int = 0
    lost: int = 0

    async def round(self, group: Group, *, silent: bool) -> None:
        """With `silent` the master's machine takes the first Sentinel along, and says nothing."""
        with server(group.url) as running:
            with running.client() as sayso:
                assert sayso.enroll("slt", speech(), raw=RAW).stored
            with Verifying(running.address, "slt") as calls:
                calls.wait_for("ACCEPTED", since_s=time.monotonic())
                wait_until(group.replicated, "replicated")
                with Enrolling(running.address, "failover", clients=2) as enrolling:
                    enrolling.wait_for_one()
                    died_s = time.monotonic()
                    if silent:
                        group.sentinels[0].pause()
                        group.master.pause()
                    else:
                        group.master.kill()
                    calls.wait_for("Unavailable", since_s=died_s)
                    wait_until(group.promoted, "promoted")
                    promoted_s = time.monotonic()
                    after_s = calls.wait_for("ACCEPTED", since_s=promoted_s).ended_s
        assert {one.outcome for one in calls.answers} <= {"ACCEPTED", "Unavailable"}
        assert not enrolling.unlike
        async with open_store(group.replica.url) as store:
            self.lost += len(await kept(store, enrolling.acknowledged))
        self.acknowledged += enrolling.count
        self.refused_s += [one.took_s for one in calls.answers if one.outcome == "Unavailable"]
        self.followed_s.append(after_s - promoted_s)
        self.took_s.append(after_s - died_s)


@pytest.mark.parametrize("silent", [False, True], ids=["killed", "silent"])
async def test_a_failover(tmp_path: Path, long: bool, seen: Seen, silent: bool) -> None:
    rounds, sentinels = (10, 3) if long else (1, 3 if silent else 1)
    name, died = "silent_failover" if silent else "failover", Died()
    for number in range(rounds):
        (tmp_path / str(number)).mkdir()
        with ExitStack() as stack:
            await died.round(Group(tmp_path / str(number), stack, sentinels), silent=silent)
    how = f"{len(died.refused_s)} verifications in {rounds} failovers, {sentinels} Sentinels"
    if silent:
        how += ", the first of which falls silent with the master"
    seen.tell(SECTION, f"{name}_refused_after", died.refused_s, "s", how)
    how = f"{rounds} failovers; from the promotion to the first decision on a call after it"
    seen.tell(SECTION, f"{name}_recovered_after", died.followed_s, "s", how)
    most_s = max(died.followed_s)
    seen.tell(
        SECTION, f"{name}_recovered_at_most", [most_s], "s", f"{rounds} failovers", below(1.0)
    )
    how = f"from the death of the master, with down-after-milliseconds {_DOWN_MS}"
    seen.tell(SECTION, f"{name}_took", died.took_s, "s", how)
    how = f"of {died.acknowledged} acknowledged around the death; replication is not awaited"
    seen.tell(SECTION, f"{name}_lost", [died.lost], "speakers", how)
