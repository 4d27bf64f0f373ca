"""A small OpenID Connect issuer: the authorization code flow with PKCE for public clients."""

import base64
import contextlib
import hashlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLIENT_ID = "sayso-console"
AUDIENCE = "sayso"


@dataclass
class Issuer:
    """Signs in whoever comes as `subject`, with these roles of the tenant; `refuses` nobody yet."""

    port: int
    redirect_uri: str = ""
    roles: str = "verify enroll"
    refuses: bool = False
    forged_state: str = ""
    codes: dict[str, str] = field(default_factory=dict)  # code: challenge
    key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write_jwks(self, path: Path) -> Path:
        public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        path.write_text(json.dumps({"keys": [public | {"kid": "one", "alg": "RS256"}]}))
        return path

    def discover(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent back to."""
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["redirect_uri"] == self.redirect_uri, asked
        assert asked["code_challenge_method"] == "S256"
        back = {"state": self.forged_state or asked["state"]}
        if self.refuses:
            back["error"] = "access_denied"
        else:
            back["code"] = secrets.token_urlsafe()
            self.codes[back["code"]] = asked["code_challenge"]
        return f"{self.redirect_uri}?{urlencode(back)}"

    def grant(self, asked: dict[str, str]) -> tuple[int, dict[str, str]]:
        """The answer to a code: each counts once, and with its verifier alone."""
        challenge = self.codes.pop(asked.get("code", ""), None)
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        shown = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if shown != challenge or asked.get("redirect_uri") != self.redirect_uri:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "a supervisor",
            "exp": now + 300,
            "iat": now,
            "tenant": "bank",
            "roles": self.roles,
        }
        token = jwt.encode(claims, self.key, "RS256", headers={"kid": "one"})
        return 200, {"access_token": token, "token_type": "Bearer"}


@contextlib.contextmanager
def run_issuer() -> Iterator[Issuer]:
    """Serve an issuer on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/authorize":
                self.send_response(302)
                self.send_header("location", issuer.authorize(asked))
                self.send_header("content-length", "0")
                self.end_headers()
            else:
                self._answer(200, issuer.discover())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self._answer(*issuer.grant({name: v[0] for name, v in parse_qs(body).items()}))

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            origin = urlsplit(issuer.redirect_uri)
            self.send_header("access-control-allow-origin", f"{origin.scheme}://{origin.netloc}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    assert server.socket.family is socket.AF_INET
    issuer = Issuer(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
