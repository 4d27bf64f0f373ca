"""Decide on several calls at once, on one event loop: what a media server does."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from sayso import AsyncClient, Overloaded, RawAudio, SequentialTest, Unavailable

FRAME_BYTES, FRAME_S = 160, 0.02  # 20 ms of mu-law at 8 kHz
TELEPHONE = RawAudio("MULAW", 8000)


def read_frames(call: Path) -> list[bytes]:
    """The frames of a WAV file that holds mu-law."""
    samples = call.read_bytes().partition(b"data")[2][4:]
    return [samples[at : at + FRAME_BYTES] for at in range(0, len(samples), FRAME_BYTES)]


async def hear(frames: list[bytes]) -> AsyncIterator[bytes]:
    """The frames as fast as they are spoken."""
    for frame in frames:
        yield frame
        await asyncio.sleep(FRAME_S)


async def answer(sayso: AsyncClient, customer: str, call: Path) -> str:
    """What to tell the agent, as soon as it is known."""
    early = SequentialTest(false_match_rate=0.01, false_non_match_rate=0.05)
    try:
        stream = sayso.verify_stream(
            customer, hear(read_frames(call)), raw=TELEPHONE, sequential=early
        )
        async with aclosing(stream) as decisions:
            async for decision in decisions:
                if decision.outcome != "INCONCLUSIVE":
                    break  # half-closes the stream: the server counts this decision
    except (Overloaded, Unavailable) as error:
        return f"ask the security questions: {error}"
    return f"{decision.outcome} after {decision.net_speech_s:.1f} s of speech"


async def main(server: str, voices: Path) -> None:
    async with AsyncClient(server) as sayso:
        for name in ("slt", "rms"):
            for recording in ("enroll-1.flac", "enroll-2.wav"):
                await sayso.enroll(name, voices / name / recording)
        calls = {
            "slt is slt": answer(sayso, "slt", voices / "slt" / "verify-2.wav"),
            "rms is rms": answer(sayso, "rms", voices / "rms" / "verify-2.wav"),
            "slt is rms": answer(sayso, "rms", voices / "slt" / "verify-2.wav"),
        }
        for claim, said in zip(calls, await asyncio.gather(*calls.values()), strict=True):
            print(f"{claim}: {said}")


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
