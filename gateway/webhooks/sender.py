"""One POST to an endpoint."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import version

import aiohttp

from gateway.webhooks.addresses import make_guard
from gateway.webhooks.body import CONTENT_TYPE
from gateway.webhooks.endpoints import Endpoint
from gateway.webhooks.schedule import parse_retry_after
from gateway.webhooks.signatures import make_headers

CONCURRENT = 8
"""Requests to an endpoint at once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an attempt; `status` is None if there was no answer."""

    status: int | None
    explanation: str
    retry_after_s: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Sender:
    """Posts to one endpoint; follows no redirect, uses no proxy, reads no body."""

    def __init__(
        self, endpoint: Endpoint, session: aiohttp.ClientSession, clock: Callable[[], float]
    ) -> None:
        self._endpoint = endpoint
        self._session = session
        self._clock = clock

    async def post(self, webhook_id: str, body: bytes) -> Answer:
        """Sign and send; raises nothing if the endpoint is away or refuses."""
        now = self._clock()
        headers = make_headers(self._endpoint.signers, webhook_id, body, at=now)
        try:
            async with self._session.post(
                self._endpoint.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                wait_s = parse_retry_after(response.headers.get("retry-after"), now=self._clock())
                return Answer(response.status, f"HTTP {response.status}", wait_s)
        except TimeoutError:
            return Answer(None, f"no answer within {self._endpoint.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(None, f"{type(error).__name__}: {error}"[:300])


@contextlib.asynccontextmanager
async def open_sender(endpoint: Endpoint, clock: Callable[[], float]) -> AsyncIterator[Sender]:
    """A sender whose connections lead only to addresses that are allowed."""
    connector = aiohttp.TCPConnector(
        limit=CONCURRENT, use_dns_cache=False, socket_factory=make_guard(endpoint.allow)
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=endpoint.timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"content-type": CONTENT_TYPE, "user-agent": f"sayso/{version('sayso')}"},
    ) as session:
        yield Sender(endpoint, session, clock)
