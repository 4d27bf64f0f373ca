"""Play a recording as calls of three platforms at once, through a gateway to a server of its own.

    python -m demo.gateway [recording ...] [--speaker name]

A Twilio call, a Genesys AudioHook session and an Asterisk AudioSocket call, at the pace of the
clock. The first claims the speaker in its media, the others are announced. The end of each call
comes back as a webhook, whose signature is verified with the library of Standard Webhooks.
"""

import argparse
import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from standardwebhooks import Webhook
from websockets.asyncio.client import connect

from gateway.webhooks.outbox import open_outbox
from gateway.webhooks.signatures import make_secret
from tests.support.audiohook_client import API_KEY, CLIENT_SECRET, AudioHookClient
from tests.support.audiosocket_calls import HANGUP, SLIN, make_frame
from tests.support.call_audio import read_mulaw, read_pcm, split
from tests.support.gateway_process import GatewayProcess
from tests.support.sayso_server import SaysoServer
from tests.support.twilio_calls import (
    ACCOUNT_KEY,
    PUBLIC_URL,
    make_call,
    make_start,
    send_call,
    sign,
)
from tests.support.voices import FOLDER, clips
from tests.support.webhook_receiver import Receiver, receive, write_webhooks

_FRAME_S = 0.02
_WEBHOOKS_S = 10.0

Frame = TypeVar("Frame")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recordings", type=Path, nargs="*", help="who calls [the demo's slt]")
    parser.add_argument("--speaker", default="slt", help=f"who is claimed, a folder of {FOLDER}")
    options = parser.parse_args()
    recordings = options.recordings or clips("slt", "verify")
    with start(options.speaker) as (server, gateway, desk):
        print(f"a server on {server.address}, a gateway on {gateway.address}", flush=True)
        asyncio.run(play_all(server, gateway, recordings, options.speaker))
        for told in desk.verify_webhooks(3):
            print(f"a webhook, its signature verified: {told}", flush=True)
        for line in gateway.terminate().splitlines():
            if decided := line.partition("gateway.calls  call ")[2]:
                print(decided)


@dataclass(frozen=True, slots=True)
class Desk:
    """The endpoint that is told the end of each call, and the secret that it verifies with."""

    receiver: Receiver
    secret: str

    def verify_webhooks(self, calls: int) -> Iterator[str]:
        """Wait for as many webhooks, and describe each; raises `WebhookVerificationError` for one
        that is not signed with the secret, `TimeoutError` if they do not come."""
        deadline_s = time.monotonic() + _WEBHOOKS_S
        while len(self.receiver.taken) < calls:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{len(self.receiver.taken)} of {calls} webhooks came")
            time.sleep(0.05)
        for received in self.receiver.taken:
            event = Webhook(self.secret).verify(received.body, received.headers)
            outcome = event["data"]["decision"]["outcome"].removeprefix("OUTCOME_")
            yield f"{event['type']} of {event['subject']}, {outcome}"


@contextmanager
def start(speaker: str) -> Iterator[tuple[SaysoServer, GatewayProcess, Desk]]:
    """A server that knows the speaker, a gateway that knows three platforms, and a desk."""
    with tempfile.TemporaryDirectory() as name, receive() as receiver:
        folder, desk = Path(name), Desk(receiver, make_secret())
        webhooks = write_webhooks(folder, receiver.url, desk.secret, more='events = ["call.ended"]')
        files = {"twilio": ACCOUNT_KEY, "audiohook": f"{API_KEY} {CLIENT_SECRET}"}
        for file, secret in files.items():
            (folder / file).touch(mode=0o600)
            (folder / file).write_text(secret)
        with SaysoServer(store=f"sqlite:///{folder}/demo.db") as server:
            with server.client() as sayso:
                for path in clips(speaker, "enroll"):
                    sayso.enroll(speaker, path)
            with GatewayProcess(
                server.address,
                twilio_auth_tokens=folder / "twilio",
                public_url=PUBLIC_URL,
                audiohook_keys=folder / "audiohook",
                audiosocket_listen="127.0.0.1:0",
                webhooks=webhooks,
                state=folder / "gateway.db",
            ) as gateway:
                wait_to_follow(folder / "gateway.db")
                yield server, gateway, desk


def wait_to_follow(state: Path) -> None:
    """Wait until the gateway follows events: those from then on are posted."""
    with open_outbox(state) as outbox:
        while outbox.get_token() is None:
            time.sleep(0.05)


async def play_all(
    server: SaysoServer, gateway: GatewayProcess, recordings: list[Path], speaker: str
) -> None:
    mulaw, samples = read_mulaw(*recordings), read_pcm(*recordings)
    print(f"three calls of {len(mulaw) / 8000:.1f} s each, all claim {speaker}", flush=True)
    await asyncio.gather(
        play_twilio(gateway, mulaw, speaker),
        play_audiohook(server, gateway, mulaw, speaker),
        play_audiosocket(server, gateway, samples, speaker),
    )


async def play_twilio(gateway: GatewayProcess, mulaw: bytes, speaker: str) -> None:
    url = f"ws://{gateway.address}/twilio"
    async with connect(url, additional_headers=sign(), proxy=None) as socket:
        messages = make_call(make_start("twilio-call", speaker_id=speaker), mulaw)
        async for message in pace(messages):
            await send_call(socket, iter([message]))
        await socket.wait_closed()


async def play_audiohook(
    server: SaysoServer, gateway: GatewayProcess, mulaw: bytes, speaker: str
) -> None:
    client = AudioHookClient(gateway.address, authority=PUBLIC_URL.removeprefix("wss://"))
    with server.client() as sayso:
        sayso.announce_call(client.conversation, speaker)
    async with client:
        await client.open()
        listening = asyncio.create_task(client.receive_until("disconnect"))
        async for packet in pace(split(mulaw)):
            if listening.done():
                break
            await client.socket.send(packet)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await client.close()
    print(f"AudioHook was sent the events {client.outcomes}", flush=True)


async def play_audiosocket(
    server: SaysoServer, gateway: GatewayProcess, samples: bytes, speaker: str
) -> None:
    call = uuid.uuid4()
    with server.client() as sayso:
        sayso.announce_call(str(call), speaker)
    host, port = gateway.audiosocket.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(make_frame(0x01, call.bytes))
    async for frame in pace(split(samples, 320)):
        writer.write(make_frame(SLIN, frame))
    writer.write(HANGUP)
    await reader.read()
    writer.close()


async def pace(frames: Iterator[Frame]) -> AsyncIterator[Frame]:
    """Yield frames as they are spoken."""
    began_s = time.monotonic()
    for number, frame in enumerate(frames):
        await asyncio.sleep(max(0.0, began_s + number * _FRAME_S - time.monotonic()))
        yield frame


if __name__ == "__main__":
    main()
