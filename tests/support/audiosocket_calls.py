"""Calls as Asterisk's AudioSocket sends them."""

import uuid

from tests.support.call_audio import split

CALL = uuid.UUID("6f1bd8e0-0000-4000-8000-00000000abcd")
SLIN, SLIN16 = 0x10, 0x12
HANGUP = b"\0\0\0"


def make_frame(kind: int, payload: bytes = b"") -> bytes:
    return bytes((kind,)) + len(payload).to_bytes(2, "big") + payload


def make_call(samples: bytes, call: uuid.UUID = CALL, kind: int = SLIN) -> bytes:
    frames = (make_frame(kind, each) for each in split(samples, 320))
    return make_frame(0x01, call.bytes) + b"".join(frames)
