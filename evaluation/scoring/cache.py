"""A cache of embeddings: one SQLite file, keyed by model, digest of the audio and treatment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SCHEMA = """
CREATE TABLE IF NOT EXISTS voice (
    model_id TEXT, digest TEXT, treatment TEXT,
    vector BLOB, speech_s REAL, total_s REAL, snr_db REAL,
    PRIMARY KEY (model_id, digest, treatment)
) WITHOUT ROWID
"""


def default_path() -> Path:
    """`~/.cache/sayso/embeddings.sqlite`."""
    return Path.home() / ".cache" / "sayso" / "embeddings.sqlite"


@dataclass(frozen=True, slots=True)
class Voice:
    """One clip's embedding (dim,), None if it had too little speech, and its quality."""

    vector: NDArray[np.float32] | None
    speech_s: float
    total_s: float
    snr_db: float


@dataclass(frozen=True, slots=True)
class Key:
    """What an embedding depends on: the model, the file's bytes and what was done to them."""

    model_id: str
    digest: str
    treatment: str


class Cache:
    """Voices by key; a second process that writes waits for the first."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path | None) -> Iterator[Cache]:
        """Open the cache in `path`, created if missing; None keeps it in memory."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path or ":memory:", timeout=60)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_SCHEMA)
            yield cls(connection)
            connection.commit()
        finally:
            connection.close()

    def get(self, key: Key) -> Voice | None:
        row = self._connection.execute(
            "SELECT vector, speech_s, total_s, snr_db FROM voice"
            " WHERE model_id = ? AND digest = ? AND treatment = ?",
            (key.model_id, key.digest, key.treatment),
        ).fetchone()
        if row is None:
            return None
        vector = None if row[0] is None else np.frombuffer(row[0], "<f4")
        return Voice(vector, *row[1:])

    def put(self, key: Key, voice: Voice) -> None:
        """Store a voice at once, so that an interrupted run resumes where it stopped."""
        vector = None if voice.vector is None else voice.vector.astype("<f4").tobytes()
        with self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO voice VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(key.model_id, key.digest, key.treatment),
                    *(vector, voice.speech_s, voice.total_s, voice.snr_db),
                ),
            )

    def absorb(self, path: Path) -> int:
        """Copy the voices of another machine's cache; returns how many were new."""
        before = self._connection.total_changes
        self._connection.execute("ATTACH DATABASE ? AS other", (str(path),))
        with self._connection:
            self._connection.execute("INSERT OR IGNORE INTO voice SELECT * FROM other.voice")
        self._connection.execute("DETACH DATABASE other")
        return self._connection.total_changes - before
