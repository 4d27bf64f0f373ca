"""A server with the HTTP API that Vault documents for encrypt, decrypt and rewrap of Transit.

It stands in for Vault, which is not here: what the documents do not say, it does not show.
"""

import base64
import json
import secrets
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.support.certificates import Pair


class _Refused(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status)
        self.status = status
        self.errors = errors


@dataclass
class Transit:
    """The keys of one Transit engine; `derived` ones demand a context, others ignore it."""

    name: str = "sayso"
    mount: str = "transit"
    token: str = field(default_factory=secrets.token_hex)
    derived: bool = True
    versions: list[bytes] = field(default_factory=lambda: [secrets.token_bytes(32)])
    asked: list[str] = field(default_factory=list)

    def rotate(self) -> None:
        self.versions.append(secrets.token_bytes(32))

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        if headers.get("X-Vault-Token") != self.token:
            raise _Refused(403, "permission denied")
        for what, act in self._acts().items():
            if path == f"/v1/{self.mount}/{what}/{self.name}":
                self.asked.append(what)
                return act(json.loads(body))
        raise _Refused(404)

    def _acts(self) -> Mapping[str, Callable[[dict[str, Any]], dict[str, str]]]:
        return {
            "encrypt": lambda asked: {"ciphertext": self._encrypt(asked, asked["plaintext"])},
            "decrypt": lambda asked: {"plaintext": self._decrypt(asked)},
            "rewrap": lambda asked: {"ciphertext": self._encrypt(asked, self._decrypt(asked))},
        }

    def _encrypt(self, asked: Mapping[str, str], plaintext: str) -> str:
        nonce, version = secrets.token_bytes(12), len(self.versions)
        plain = base64.b64decode(plaintext, validate=True)
        sealed = nonce + self._cipher(asked, version).encrypt(nonce, plain, None)
        return f"vault:v{version}:{base64.b64encode(sealed).decode()}"

    def _decrypt(self, asked: Mapping[str, str]) -> str:
        mark, version, sealed = asked["ciphertext"].split(":")
        if mark != "vault" or not 1 <= int(version[1:]) <= len(self.versions):
            raise _Refused(400, "invalid ciphertext: no prefix")
        raw = base64.b64decode(sealed)
        try:
            plain = self._cipher(asked, int(version[1:])).decrypt(raw[:12], raw[12:], None)
        except InvalidTag:
            raise _Refused(400, "cipher: message authentication failed") from None
        return base64.b64encode(plain).decode()

    def _cipher(self, asked: Mapping[str, str], version: int) -> AESGCM:
        key = self.versions[version - 1]
        if not self.derived:
            return AESGCM(key)
        if not asked.get("context"):
            raise _Refused(400, "missing 'context' for key derivation")
        context = base64.b64decode(asked["context"], validate=True)
        return AESGCM(HKDF(SHA256(), 32, None, context).derive(key))


class VaultServer:
    """Serves a `Transit` on a free port; `reply`, if set, is sent instead of any answer."""

    def __init__(self, pair: Pair | None = None) -> None:
        self.transit = Transit()
        self.reply: tuple[int, bytes] | None = None
        self.redirect_to = ""
        self.held = threading.Event()
        self.held.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._scheme = "http"
        if pair is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pair.certificate, pair.key)
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def address(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self.held.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                vault.held.wait()
                status, reply = vault.reply or vault._answer(self.path, self.headers, body)
                if vault.redirect_to:
                    status = 307
                self.send_response(status)
                if vault.redirect_to:
                    self.send_header("Location", vault.redirect_to + self.path)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler

    def _answer(self, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        try:
            return 200, json.dumps({"data": self.transit.answer(path, headers, body)}).encode()
        except _Refused as refused:
            return refused.status, json.dumps({"errors": list(refused.errors)}).encode()
