"""Debian's Chromium under Playwright, with a file for a microphone; skips where one is missing."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile as sf
import soxr

CHROMIUM = shutil.which("chromium")
AVAILABLE = find_spec("playwright") is not None and CHROMIUM is not None

_RATE = 48000


@dataclass
class Tab:
    """A page, with what went wrong on it and where it asked."""

    page: Any
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    failed: list[tuple[int, str]] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))
        self.page.on("response", self._note_response)

    def _note_message(self, message: Any) -> None:
        # Chromium writes a line of its own for each response of 400 and more; those are `failed`.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _note_response(self, response: Any) -> None:
        if response.status >= 400:
            self.failed.append((response.status, urlsplit(response.url).path))


def write_microphone(path: Path, *clips: Path) -> Path:
    """A WAV file that Chromium plays into its microphone, over and over."""
    parts = []
    for clip in clips:
        samples, rate = sf.read(clip, dtype="float32")
        parts.append(soxr.resample(samples, rate, _RATE))
    sf.write(path, np.concatenate(parts), _RATE, subtype="PCM_16")
    return path


@contextlib.asynccontextmanager
async def open_tab(microphone: Path, **options: Any) -> AsyncIterator[Tab]:
    """A page of a Chromium of its own; `options` are of Playwright's contexts."""
    arguments = [
        "--no-sandbox",  # tests run as root in containers
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        "--autoplay-policy=no-user-gesture-required",
    ]
    from playwright.async_api import async_playwright  # noqa: PLC0415

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            context = await browser.new_context(**{"locale": "en-GB", **options})
            tab = Tab(await context.new_page())
            tab.watch()
            yield tab
        finally:
            await browser.close()
