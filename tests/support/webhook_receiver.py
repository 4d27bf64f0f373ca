"""An HTTP server that keeps what is posted to it, and a gateway's settings that lead to it."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gateway.webhooks.signatures import make_secret

Reply = tuple[int, dict[str, str]]
OK: Reply = (204, {})


@dataclass(frozen=True, slots=True)
class Received:
    """One request, and what it was answered."""

    headers: dict[str, str]
    body: bytes
    status: int


@dataclass
class Receiver:
    """Answers with `replies`, one each, and with 204 when there are none left."""

    port: int
    received: list[Received] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def taken(self) -> list[Received]:
        """The requests that were answered 204."""
        return [each for each in list(self.received) if each.status == 204]


@contextmanager
def receive(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with receiver.lock:
                status, headers = receiver.replies.pop(0) if receiver.replies else OK
                named = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(named, body, status))
            self.send_response(status)
            for name, value in {"content-length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a gateway that is killed leaves its connections

    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_address[1])
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_webhooks(folder: Path, url: str, *secrets: str, more: str = "") -> Path:
    """The TOML file of one endpoint, `desk`, with its secrets, or one made for it."""
    lines = secrets or (make_secret(),)
    path = folder / "desk.secrets"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    file = folder / "webhooks.toml"
    file.write_text(
        f'[endpoints.desk]\nurl = "{url}"\nsecrets = "desk.secrets"\n'
        f'allow = ["127.0.0.0/8"]\n{more}\n'
    )
    return file
