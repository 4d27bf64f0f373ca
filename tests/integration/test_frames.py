"""A message of 20 ms that completes no block passes through few functions of the service."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
from sayso import Client
from sayso.v1 import audio_pb2, verification_pb2_grpc
from sayso.v1 import verification_pb2 as pb

import service
from service.server import open_server
from service.settings import Settings
from tests.support.voices import clips

SERVICE = str(Path(service.__file__).parent)
AUDIO = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8_000)
FRAME = pb.StreamingVerifyRequest(audio=b"\xff" * 160)
MOST_FRAMES = 10


@contextmanager
def calls_counted() -> Iterator[list[str]]:
    """The functions of the service that this thread enters, or goes on in."""
    entered: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SERVICE):
            entered.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        yield entered
    finally:
        sys.setprofile(None)


async def settle() -> None:
    await asyncio.sleep(0.3)


async def test_a_message_that_completes_no_block_costs_few_frames(tmp_path: Path) -> None:
    settings = Settings.read(listen="127.0.0.1:0", store=f"sqlite:///{tmp_path}/voices.db")
    async with (
        open_server(settings) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        await asyncio.to_thread(enroll, running.address)
        call = verification_pb2_grpc.VerificationServiceStub(channel).StreamingVerify()
        config = pb.StreamingVerifyConfig(speaker_id="slt", audio_config=AUDIO)
        await call.write(pb.StreamingVerifyRequest(config=config))
        await call.write(FRAME)  # goes alone: it might begin as a file does
        await settle()
        messages = []
        for _ in range(4):
            with calls_counted() as entered:
                await call.write(FRAME)
                await settle()
            messages.append(entered)
        fewest = min(messages, key=len)  # whatever else the server did meanwhile
        assert 0 < len(fewest) <= MOST_FRAMES, fewest
        with calls_counted() as fifth:
            await call.write(FRAME)
            await settle()
        assert len(fifth) > MOST_FRAMES, "the fifth message completes a block of 100 ms"
        await call.done_writing()
        assert [response.done async for response in call] == [True]


def enroll(address: str) -> None:
    with Client(address) as sayso:
        sayso.enroll("slt", clips("slt", "enroll")[0])
