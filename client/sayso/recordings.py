"""Audio on its way out: whole recordings, and chunks of a call."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from sayso.values import RawAudio, Recording

MAX_CHUNK_BYTES = 15 * 1024
"""The most audio that one stream message may carry."""

MESSAGE_S = 0.1
"""Seconds of audio for which a stream collects smaller chunks."""

_SAMPLE_BYTES = {"LINEAR16": 2, "MULAW": 1, "ALAW": 1}


def read_recording(audio: Recording) -> bytes:
    """Return the bytes of a recording; raises OSError for a file that cannot be read."""
    if isinstance(audio, bytes):
        return audio
    if isinstance(audio, str | PathLike):
        return Path(audio).read_bytes()
    return audio.read()


class Collector:
    """Joins chunks to about `message_s` seconds, for a message costs a server as much as what it
    holds. The first goes alone: if it is not what it is declared as, the server says so at once.

    Audio whose size says nothing of its length, a file or packets, goes as it comes. What is given
    back has at most `MAX_CHUNK_BYTES`.
    """

    def __init__(self, raw: RawAudio | None, message_s: float) -> None:
        self._message_bytes = _bytes_of(message_s, raw) if raw else 0.0
        self._enough = 0.0
        self._joined = bytearray()

    def add(self, chunk: bytes) -> Iterator[bytes]:
        self._joined += chunk
        if len(self._joined) >= self._enough:
            yield from self.rest()
            self._enough = self._message_bytes

    def rest(self) -> Iterator[bytes]:
        joined = bytes(self._joined)
        self._joined.clear()
        for at in range(0, len(joined), MAX_CHUNK_BYTES):
            yield joined[at : at + MAX_CHUNK_BYTES]


def _bytes_of(seconds: float, raw: RawAudio) -> float:
    return seconds * raw.sample_rate * raw.channels * _SAMPLE_BYTES.get(raw.encoding, 0)
