"""The console: one page for a supervisor, and for anybody's first five minutes.

Static files without a build step. They talk to this gateway alone, over REST, server-sent events
and the WebSocket of browsers, with the key that a person signs in with; the page itself holds none.

static/app.js          signs in, shows what the roles allow
static/api.js          REST and events
static/microphone.js   samples of the microphone, through recorder.js
static/call.js         a call over the WebSocket, drawn by chart.js
static/trial.js, speakers.js, groups.js, activity.js   the parts of the page
static/texts.json      every word, in English and German
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

STATIC = Path(__file__).parent / "static"

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def list_routes() -> list[BaseRoute]:
    return [Route("/", _redirect), Mount("/console", _Files(directory=STATIC, html=True))]


async def _redirect(request: Request) -> Response:
    return RedirectResponse("/console/", headers=HEADERS)


class _Files(StaticFiles):
    """Files with the headers that keep the page to itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await super().__call__(scope, receive, send_headers)
