"""Verify everybody who speaks in a LiveKit room: is the voice that of the participant's identity?

    LIVEKIT_URL=wss://live.example LIVEKIT_TOKEN=... python livekit_agent.py

SAYSO_SERVER, SAYSO_CA and SAYSO_CREDENTIAL say how to reach Sayso.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from livekit import rtc
from sayso import AsyncClient, Decision, RawAudio, SaysoError, SequentialTest, Tls

RATE = 16_000  # hertz, to which LiveKit resamples


async def verify_track(
    sayso: AsyncClient, speaker_id: str, track: rtc.Track
) -> AsyncIterator[Decision]:
    """Decides whether the voice on a track is the enrolled speaker `speaker_id`.

    The last decision is conclusive, unless the track ended before one was.
    """
    audio = rtc.AudioStream.from_track(track=track, sample_rate=RATE, num_channels=1)
    decisions = sayso.verify_stream(
        speaker_id,
        (bytes(event.frame.data) async for event in audio),
        raw=RawAudio("LINEAR16", RATE),
        sequential=SequentialTest(),
        stop_at_decision=True,
    )
    try:
        async for decision in decisions:
            yield decision
    finally:
        await audio.aclose()


async def print_decisions(sayso: AsyncClient, speaker_id: str, track: rtc.Track) -> None:
    try:
        async for decision in verify_track(sayso, speaker_id, track):
            seconds = f"{decision.net_speech_s:.1f} s"
            print(f"{speaker_id}: {seconds}: {decision.outcome} {decision.band}")
    except SaysoError as error:
        print(f"{speaker_id}: {error}")


async def main() -> None:
    ca = os.environ.get("SAYSO_CA")
    room, ended = rtc.Room(), asyncio.Event()
    client = AsyncClient(
        os.environ.get("SAYSO_SERVER", "127.0.0.1:50051"),
        credential=os.environ.get("SAYSO_CREDENTIAL"),
        tls=Tls(ca=Path(ca)) if ca else None,
    )
    async with client as sayso, asyncio.TaskGroup() as tasks:

        @room.on("track_subscribed")
        def verify(
            track: rtc.Track, _: rtc.RemoteTrackPublication, speaker: rtc.RemoteParticipant
        ) -> None:
            if track.kind == rtc.TrackKind.KIND_AUDIO:
                tasks.create_task(print_decisions(sayso, speaker.identity, track))

        room.on("disconnected", lambda _: ended.set())
        await room.connect(os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"])
        await ended.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
