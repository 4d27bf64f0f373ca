"""Records that the first committed version wrote are read, and grow a history when written."""

import contextlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import redis

from service.speakers.lifecycle import record_enrollment, undo_enrollment
from service.store import Consent, Speaker, SpeakerState, Store, Voiceprint, open_store
from tests.support.redis_server import RedisServer

RECORD = (
    "01000200020000000000000084D7D741"  # schema, dim, n, created_at
    "00002040000080409A99193FCDCC4C3F0000803F00000000"  # net speech, vectors
)
PROFILES = {
    "alice": {
        "schema": 1,
        "tenant": "t",
        "speaker_id": "alice",
        "state": "enrolled",
        "metadata": {"line": "mobile"},
        "consent": {"reference": "form 27", "at": 1599999999.0},
        "created_at": 1600000000.0,
        "updated_at": 1600000100.0,
    },
    "bob": {
        "schema": 1,
        "tenant": "t",
        "speaker_id": "bob",
        "state": "opted_out",
        "metadata": {},
        "consent": None,
        "created_at": 1600000000.0,
        "updated_at": 1600000200.0,
    },
}
ETAGS = {"alice": "a77e76188c42e763", "bob": "e1c3d5c4b7ed2ca4"}
DUMP = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE speaker (
    tenant TEXT NOT NULL,
    speaker_id TEXT NOT NULL,
    etag TEXT NOT NULL,
    profile BLOB NOT NULL,
    PRIMARY KEY (tenant, speaker_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE voiceprint (
    tenant TEXT NOT NULL,
    speaker_id TEXT NOT NULL,
    model_id TEXT NOT NULL,
    used_at REAL,
    record BLOB NOT NULL,
    PRIMARY KEY (tenant, speaker_id, model_id),
    FOREIGN KEY (tenant, speaker_id) REFERENCES speaker ON DELETE CASCADE
) STRICT;
INSERT INTO speaker VALUES
    ('t', 'alice', '{ETAGS["alice"]}', CAST('{json.dumps(PROFILES["alice"])}' AS BLOB)),
    ('t', 'bob', '{ETAGS["bob"]}', CAST('{json.dumps(PROFILES["bob"])}' AS BLOB));
INSERT INTO voiceprint VALUES ('t', 'alice', 'model-a', 1600000500.0, x'{RECORD}');
PRAGMA application_id = 1398888819;
PRAGMA user_version = 1;
"""  # noqa: S608 - the values are above

ALICE = Speaker(
    *("t", "alice", SpeakerState.ENROLLED, 1600000000.0, 1600000100.0),
    voiceprints={
        "model-a": Voiceprint(
            "model-a",
            np.array([[0.6, 0.8], [1, 0]], np.float32),
            np.array([2.5, 4.0], np.float32),
            created_at=1600000000.0,
            used_at=1600000500.0,
        )
    },
    metadata={"line": "mobile"},
    consent=Consent("form 27", 1599999999.0),
    etag=ETAGS["alice"],
)
BOB = Speaker(*("t", "bob", SpeakerState.OPTED_OUT, 1600000000.0, 1600000200.0), etag=ETAGS["bob"])


def _written_to_redis(port: int) -> None:
    with redis.Redis(port=port) as client:
        for speaker_id, profile in PROFILES.items():
            fields = {"etag": ETAGS[speaker_id], "profile": json.dumps(profile)}
            client.hset(f"sayso:{{t}}:speaker:{speaker_id}", mapping=fields)
            client.zadd("sayso:{t}:speakers", {speaker_id: 0})
        voiceprint = {"voiceprint:model-a": bytes.fromhex(RECORD), "used_at:model-a": "1600000500"}
        client.hset("sayso:{t}:speaker:alice", mapping=voiceprint)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_an_earlier_version_is_read_and_written(kind: str, tmp_path: Path) -> None:
    if kind == "sqlite":
        path = tmp_path / "voices.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript(DUMP)
        async with open_store(f"sqlite:///{path}") as store:
            await _check(store)
        return
    with RedisServer(tmp_path) as server:
        _written_to_redis(server.port)
        async with open_store(server.url) as store:
            await _check(store)


async def _check(store: Store) -> None:
    assert await store.get("t", "alice") == ALICE
    assert (await store.list("t", limit=10)).speakers == (ALICE, BOB)
    later = record_enrollment(ALICE, ALICE, now=1600001000.0)
    written = await store.put(later, expected_etag=ALICE.etag)
    assert len(written.history) == 1
    assert await store.get("t", "alice") == written
    back = await store.put(undo_enrollment(written, now=1.0), expected_etag=written.etag)
    assert back.voiceprints["model-a"].speech_s.tolist() == [2.5, 4.0]
    assert await store.delete("t", "bob")
