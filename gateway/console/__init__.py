"""The console: one page for a supervisor, and for anybody's first five minutes.

Static files without a build step. They talk to this gateway alone, over REST, server-sent events
and the WebSocket of browsers, with the key that a person signs in with; the page itself holds none.

static/app.js          signs in, shows what the roles allow
static/oidc.js         sign-in at an identity provider
static/api.js          REST and events
static/microphone.js   samples of the microphone, through recorder.js
static/call.js         a call over the WebSocket, drawn by chart.js
static/trial.js, speakers.js, groups.js, activity.js   the parts of the page
static/texts.json      every word, in English and German
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from gateway.settings import Settings

STATIC = Path(__file__).parent / "static"

_HEADERS = {
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def list_routes(settings: Settings) -> list[BaseRoute]:
    """The page's files, and where it sends people to sign in."""
    headers = make_headers(settings)

    async def redirect(request: Request) -> Response:
        return RedirectResponse("/console/", headers=headers)

    async def show_config(request: Request) -> Response:
        shown = {
            "issuer": settings.oidc_issuer,
            "client_id": settings.oidc_client_id,
            "scope": settings.oidc_scope,
        }
        return JSONResponse(shown, headers=headers)

    return [
        Route("/", redirect),
        Route("/console/config.json", show_config),
        Mount("/console", _Files(headers)),
    ]


def make_headers(settings: Settings) -> dict[str, str]:
    """Headers that keep the page to itself, and to the issuer if there is one."""
    issuer = urlsplit(settings.oidc_issuer)
    connect = f"'self' {issuer.scheme}://{issuer.netloc}" if settings.oidc_issuer else "'self'"
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"content-security-policy": policy, **_HEADERS}


class _Files(StaticFiles):
    """Files, each with these headers."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(directory=STATIC, html=True)
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await super().__call__(scope, receive, send_headers)
