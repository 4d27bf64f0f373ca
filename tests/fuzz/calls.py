"""Calls of every rpc, with requests of any bytes and with well-formed ones of hostile values.

    rpc (1 byte)  0: messages, each after its length (2 bytes)     any bytes, parsed
                  1: choices                                       built field by field

Documented are every `SaysoError` with a status other than INTERNAL, and protobuf's `DecodeError`,
which gRPC itself answers.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message
from sayso.v1 import (
    audio_pb2,
    call_pb2,
    decision_pb2,
    event_pb2,
    group_pb2,
    server_pb2,
    speaker_pb2,
    verification_pb2,
)

from service.access import ANYONE, use_caller
from service.errors import SaysoError
from service.rpc import pages
from tests.fuzz import served, sound
from tests.fuzz.building import Pools, Source, fill
from tests.fuzz.harness import Check, Harness, limited

MAX_STATUS_CHARACTERS = 1_000
_MOST_MESSAGES = 8
_CALL_S = 30.0
_RAW = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8_000)
_SERVICES = (verification_pb2, speaker_pb2, group_pb2, server_pb2, call_pb2, event_pb2)


class Defect(Exception):
    """An answer that no input may lead to."""


@cache
def _requests() -> Mapping[str, type[Message]]:
    """The request class of every rpc by its full name, in a fixed order."""
    found = {}
    for module in _SERVICES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                name = method.input_type.name
                found[f"{service.full_name}/{method.name}"] = getattr(module, name)
    return dict(sorted(found.items()))


@cache
def _pools() -> Pools:
    speech = (sound.made(2.0, 8_000) * 32_767).astype("<i2").tobytes()
    unit = np.eye(served.DIMENSION, dtype=np.float32)
    return {
        "speaker_id": ("alice", "bob", "nobody", "carol"),
        "speaker_ids": (["alice"], ["alice", "bob"], ["nobody"] * 1_001),
        "group": ("members", "none"),
        "identify_group": ("members", "none"),
        "name": ("members", "none", "another"),
        "watchlists": (["members"], ["members"] * 17, ["none"]),
        "model_id": (served.CONTRACT.model_id, "other"),
        "values": ([*unit[0]], [*unit[1]], [0.0] * served.DIMENSION, [float("nan")] * 8, [1.0]),
        "etag": ("1", "2", "0", "stale"),
        "page_token": (pages.encode_token("alice"), "é", "=", "YQ", "____", "gICA"),
        "paths": (["metadata"], ["consent", "state"], ["state"], ["x" * 4_000], ["speaker_id"]),
        "audio": (speech, speech[:1_001], b"", b"\0" * 4_000, *map(bytes, sound.ogg_files())),
    }


def check_call(handlers: Mapping[str, Any], runner: asyncio.Runner, data: bytes) -> None:
    source = Source(data)
    rpc = source.of([*_requests()])
    handler = handlers[rpc]
    built = source.byte() % 2
    requests = _built(rpc, source) if built else _parsed(handler, source)
    if not requests and not handler.request_streaming:
        requests = [_requests()[rpc]()]
    try:
        runner.run(asyncio.wait_for(_answered(handler, requests), _CALL_S))
    except SaysoError as refused:
        if refused.code is grpc.StatusCode.INTERNAL:
            raise Defect("an error of a defect here") from refused
        if len(refused.status_message) > MAX_STATUS_CHARACTERS:
            raise Defect("a status that repeats the request") from refused


def _built(rpc: str, source: Source) -> list[Message]:
    made: list[Message] = []
    while source.left and len(made) < _MOST_MESSAGES:
        made.append(fill(_requests()[rpc](), source, _pools()))
    return made


def _parsed(handler: Any, source: Source) -> list[Message]:
    parsed: list[Message] = []
    while source.left and len(parsed) < _MOST_MESSAGES:
        try:
            parsed.append(handler.request_deserializer(source.take(int.from_bytes(source.take(2)))))
        except DecodeError:
            break
    return parsed


async def _answered(handler: Any, requests: Sequence[Message]) -> None:
    with use_caller(ANYONE):
        async for response in served.called(handler, requests):
            response.SerializeToString()
            if getattr(response, "error_code", 0) == grpc.StatusCode.INTERNAL.value[0]:
                raise Defect(f"an item failed: {response.error_message}")


@contextmanager
def _opened() -> Iterator[Check]:
    """On a store with a voice and a group."""
    memory = Path("/dev/shm")  # noqa: S108
    with (
        tempfile.TemporaryDirectory(
            prefix="sayso-fuzz-", dir=memory if memory.is_dir() else None
        ) as folder,
        asyncio.Runner() as runner,
    ):
        opening = served.handlers(Path(folder))
        handlers = runner.run(opening.__aenter__())
        try:
            for seed in _well_formed():
                check_call(handlers, runner, seed)
            yield limited(lambda data: check_call(handlers, runner, data))
        finally:
            runner.run(opening.__aexit__(None, None, None))


def _well_formed() -> Iterator[bytes]:
    """Call that a client would make, in an order that makes sense."""
    speech = (sound.made(1.0, 8_000) * 127).astype("i1").tobytes()
    chunks = [speech[:6_000], speech[6_000:7_600]]
    unit = [1.0] + [0.0] * (served.DIMENSION - 1)
    vector = verification_pb2.Embedding(model_id="made", values=unit, net_speech_s=2)
    enroll = verification_pb2.EnrollConfig(
        speaker_id="alice", audio_config=_RAW, metadata={"a": "b"}
    )
    call = verification_pb2.StreamingVerifyConfig(
        speaker_id="alice",
        audio_config=_RAW,
        policy=decision_pb2.DecisionPolicy(sequential=decision_pb2.SequentialTest()),
        identify_group_name="members",
        continuous=True,
    )
    group = group_pb2.Group(name="members")
    yield _call(
        "Enroll",
        verification_pb2.StreamingEnrollRequest(config=enroll),
        *(verification_pb2.StreamingEnrollRequest(audio=chunk) for chunk in chunks),
    )
    yield _call("CreateGroup", group_pb2.CreateGroupRequest(group=group))
    yield _call(
        "AddMembers", group_pb2.AddMembersRequest(group_name="members", speaker_ids=["alice"])
    )
    yield _call("Compare", verification_pb2.CompareRequest(left=[vector], right=[vector]))
    yield _call(
        "StreamingVerify",
        verification_pb2.StreamingVerifyRequest(config=call),
        *(verification_pb2.StreamingVerifyRequest(audio=chunk) for chunk in chunks),
    )


def _call(method: str, *requests: Message) -> bytes:
    [rpc] = [at for at, name in enumerate(_requests()) if name.endswith(f"/{method}")]
    messages = [request.SerializeToString() for request in requests]
    framed = b"".join(len(each).to_bytes(2) + each for each in messages)
    return bytes((rpc, 0)) + framed


def _seeds() -> Iterator[bytes]:
    yield from _well_formed()
    chance = np.random.default_rng(1)
    for rpc in range(len(_requests())):
        for _ in range(3):
            yield bytes((rpc, 1)) + chance.bytes(200)


def _rebuilt(_: bytes, chance: Random) -> bytes:
    """Choices for any rpc."""
    head = bytes((chance.randrange(len(_requests())), 1))
    return head + chance.randbytes(chance.choice((20, 100, 400)))


HARNESSES = (Harness("calls", _opened, _seeds, _rebuilt),)
