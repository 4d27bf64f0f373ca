"""Verify the user of a Pipecat pipeline while they talk.

    verifier = SpeakerVerifier(sayso, "27-1182")
    Pipeline([transport.input(), verifier, stt, llm, tts, transport.output()])

A processor further on reads `SpeakerDecisionFrame`.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import DataFrame, EndFrame, Frame, InputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from sayso import AsyncClient, Decision, RawAudio, SaysoError, SequentialTest


@dataclass
class SpeakerDecisionFrame(DataFrame):
    """The decision on the claimed speaker as it stands."""

    decision: Decision


class SpeakerVerifier(FrameProcessor):
    """Decides whether the user is the enrolled speaker `speaker_id`, and lets all frames through.

    Pushes a `SpeakerDecisionFrame` for each decision, until one is conclusive. An error of Sayso
    becomes an `ErrorFrame`, and the conversation goes on.
    """

    def __init__(self, sayso: AsyncClient, speaker_id: str, **options: Any) -> None:
        super().__init__(**options)
        self._sayso = sayso
        self._speaker_id = speaker_id
        self._audio: asyncio.Queue[bytes] = asyncio.Queue()
        self._verifying: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._listen(frame)
        elif isinstance(frame, EndFrame) and self._verifying is not None:
            self._audio.put_nowait(b"")
            await self._verifying  # the last decision goes before the end
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        if self._verifying is not None:
            await self.cancel_task(self._verifying)
        await super().cleanup()

    def _listen(self, frame: InputAudioRawFrame) -> None:
        if self._verifying is None:
            raw = RawAudio("LINEAR16", frame.sample_rate)
            self._verifying = self.create_task(self._verify(raw))
        if not self._verifying.done():
            self._audio.put_nowait(frame.audio)

    async def _verify(self, raw: RawAudio) -> None:
        decisions = self._sayso.verify_stream(
            self._speaker_id,
            self._read_audio(),
            raw=raw,
            sequential=SequentialTest(),
            stop_at_decision=True,
        )
        try:
            async for decision in decisions:
                await self.push_frame(SpeakerDecisionFrame(decision))
        except SaysoError as error:
            await self.push_error(f"the user is not verified: {error}", error)

    async def _read_audio(self) -> AsyncIterator[bytes]:
        while audio := await self._audio.get():
            yield audio
