"""Count how much Python a warm `Verify` runs in `service/`: frames entered, files, changes of file.

    python -m benchmarks.speed.frames [--store sqlite:///...]

One server in this process, and one recording that is verified again and again; the profile is of
the last call. A resumed coroutine counts as a frame entered. The figures are exact, so they can be
compared on a busy machine, but the order in which two threads run may move a change of file.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import FrameType

import grpc
from sayso.v1 import verification_pb2 as pb
from sayso.v1 import verification_pb2_grpc

from service.server import open_server
from service.settings import SHIPPED_MODEL, Settings
from tests.support.audio_configs import FILE

ROOT = Path(__file__).resolve().parents[2]
SERVICE = f"{ROOT / 'service'}/"
VOICE = ROOT / "demo" / "audio" / "awb"
WARM_UP_CALLS = 5


class FrameProfile:
    """The files of `service/` whose frames are entered while it is `active`, in order."""

    def __init__(self) -> None:
        self.active = False
        self.entered: list[tuple[str, str]] = []

    def install(self) -> None:
        """Profile this thread and those started from now on; call it before the server starts."""
        threading.setprofile(self._record)
        sys.setprofile(self._record)

    def report(self) -> str:
        files = [path for path, _ in self.entered]
        changes = sum(before != after for before, after in pairwise(files))
        most = "\n".join(f"{count:6} {path}" for path, count in Counter(files).most_common())
        return f"{len(files)} frames in {len(set(files))} files, {changes} changes of file\n{most}"

    def _record(self, frame: FrameType, event: str, argument: object) -> None:
        if self.active and event == "call":
            code = frame.f_code
            if code.co_filename.startswith(SERVICE):
                self.entered.append((code.co_filename.removeprefix(SERVICE), code.co_qualname))


async def profile_verify(store: str) -> FrameProfile:
    """Profile one warm `Verify` of a whole recording."""
    profile = FrameProfile()
    profile.install()
    settings = Settings.read(store=store, listen="127.0.0.1:0", model=SHIPPED_MODEL)
    async with (
        open_server(settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        await _enroll(stub)
        audio = (VOICE / "verify-1.flac").read_bytes()
        request = pb.VerifyRequest(speaker_id="awb", audio_config=FILE, audio=audio)
        for _ in range(WARM_UP_CALLS):
            await stub.Verify(request)
        profile.active = True
        await stub.Verify(request)
        profile.active = False
    return profile


async def _enroll(stub: "verification_pb2_grpc.VerificationServiceAsyncStub") -> None:
    for path in sorted(VOICE.glob("enroll*")):
        audio = path.read_bytes()
        config = pb.EnrollConfig(speaker_id="awb", audio_config=FILE)
        messages = [pb.StreamingEnrollRequest(config=config)]
        messages += [
            pb.StreamingEnrollRequest(audio=audio[at : at + 8192])
            for at in range(0, len(audio), 8192)
        ]
        async for response in stub.StreamingEnroll(iter(messages)):
            if response.HasField("result") and not response.result.stored:
                raise SystemExit(response.result.explanation)


def main() -> None:
    """Print the figures, and with `--calls` every frame in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store")
    parser.add_argument("--calls", action="store_true", help="also print each frame entered")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = arguments.store or f"sqlite:///{folder}/sayso.db"
        profile = asyncio.run(profile_verify(store))
    print(profile.report())
    if arguments.calls:
        print("\n".join(f"{path} {name}" for path, name in profile.entered))


if __name__ == "__main__":
    main()
