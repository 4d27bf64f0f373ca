"""An HTTP request as an rpc, with the caller's own credential."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from sayso.connection import TIMEOUT_S, Target
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.metrics import time_request
from gateway.rest.bindings import Binding, Bindings
from gateway.rest.events import EventStream, watch
from gateway.rest.messages import make_request
from gateway.rest.statuses import BadRequest, RequestRefused, respond_to_error
from gateway.settings import Settings

MAX_BODY_BYTES = 6 * 2**20
"""A message of 4 MiB, which the server takes at most, whose audio is in base64."""

_MAX_REQUESTS = 64
_MAX_WATCHERS = 100
_MAX_TIMEOUT_S = 300.0
_BODY_S = 30.0
_LARGE_BYTES = 64 * 1024
_PASSED_ON = ("authorization", "x-api-key", "x-request-id")
_REQUEST_ID = "x-request-id"
_VERBS = ["GET", "POST", "PATCH", "DELETE"]

_PACKAGE = Path(__file__).parent
_OPENAPI_FILES = (_PACKAGE / "openapi.yaml", _PACKAGE.parents[1] / "protos/openapi.yaml")
"""In an installed gateway, and in a checkout."""


class Rest:
    """Requests in progress over one channel, which shows no credential of its own. With
    `certificate` the channel has the gateway's client certificate, and a request has to show a
    credential lest it be taken for the gateway."""

    def __init__(self, channel: grpc.aio.Channel, *, certificate: bool) -> None:
        self._channel = channel
        self._certificate = certificate
        self._bindings = Bindings()
        self._requests = asyncio.Semaphore(_MAX_REQUESTS)
        self._watchers = asyncio.Semaphore(_MAX_WATCHERS)

    def list_routes(self) -> list[BaseRoute]:
        return [
            Route("/openapi.yaml", show_openapi),
            Route("/v1/events:watch", self.watch_events),
            Route("/v1/{path:path}", self.answer, methods=_VERBS),
        ]

    async def answer(self, request: Request) -> Response:
        """Answer a request, or refuse it when there are too many."""
        with time_request() as labels:
            try:
                async with _take(self._requests):
                    response = await self._call(request, labels)
            except RequestRefused as refused:
                response = refused.make_response()
            labels["code"] = str(response.status_code)
            return response

    async def watch_events(self, request: Request) -> Response:
        """Answer with a stream of events, which holds its place among watchers until it ends."""
        if self._watchers.locked():
            return _make_busy().make_response()
        try:
            return await watch(
                EventStream(self._channel), request, self._read_metadata(request), self._watchers
            )
        except RequestRefused as refused:
            return refused.make_response()

    async def _call(self, request: Request, labels: dict[str, str]) -> Response:
        binding, fields = self._find(request)
        labels["rpc"] = binding.method.name
        metadata = self._read_metadata(request)
        timeout_s = read_timeout_s(request)
        body = await read_body(request)
        query = request.query_params.multi_items()
        if len(body) > _LARGE_BYTES:  # so that calls in progress are not held up
            message = await asyncio.to_thread(make_request, binding, fields, query, body)
        else:
            message = make_request(binding, fields, query, body)
        call = self._open(binding)(message, metadata=metadata, timeout=timeout_s)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            return respond_to_error(error, _read_request_id(error.trailing_metadata()))
        headers = {"cache-control": "no-store", **_read_request_id(await call.trailing_metadata())}
        return Response(write_json(response), headers=headers, media_type="application/json")

    def _find(self, request: Request) -> tuple[Binding, dict[str, str]]:
        path = request.scope["raw_path"].decode("ascii")
        try:
            found = self._bindings.find(request.method, path)
            verbs = self._bindings.list_verbs(path)
        except UnicodeDecodeError:
            raise BadRequest("the path is not UTF-8") from None
        if found is not None:
            return found
        if verbs:
            raise RequestRefused(
                grpc.StatusCode.UNIMPLEMENTED,
                f"this path takes {', '.join(verbs)}",
                http_code=405,
                headers={"allow": ", ".join(verbs)},
            )
        raise RequestRefused(
            grpc.StatusCode.NOT_FOUND, "there is no such path; GET /openapi.yaml lists them"
        )

    def _read_metadata(self, request: Request) -> list[tuple[str, str]]:
        shown = [
            (name, value) for name, value in request.headers.items() if name in _PASSED_ON and value
        ]
        if not all(value.isascii() and value.isprintable() for _, value in shown):
            raise RequestRefused(
                grpc.StatusCode.UNAUTHENTICATED, "a header holds characters beyond ASCII"
            )
        if self._certificate and all(name == _REQUEST_ID for name, _ in shown):
            raise RequestRefused(
                grpc.StatusCode.UNAUTHENTICATED,
                "show a credential: `Authorization: Bearer` and an API key or a token",
                headers={"www-authenticate": "Bearer"},
            )
        return shown

    def _open(self, binding: Binding) -> grpc.aio.UnaryUnaryMultiCallable[Message, Message]:
        return self._channel.unary_unary(
            binding.rpc,
            request_serializer=binding.request.SerializeToString,
            response_deserializer=binding.response.FromString,
        )


@contextlib.asynccontextmanager
async def open_rest(settings: Settings) -> AsyncIterator[Rest]:
    """Raise `SettingsError` if credentials would leave this machine in plaintext."""
    target = Target(settings.server, "a caller's", settings.make_tls(), settings.client_insecure)
    async with target.open(grpc.aio) as channel:
        yield Rest(channel, certificate=settings.client_certificate is not None)


def write_json(message: Message) -> str:
    """The message as JSON, by the fields' names in the protos, as openapi.yaml has them."""
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    )


async def read_body(request: Request) -> bytes:
    """Read a body of JSON within its limits of size and time."""
    if request.method in ("GET", "DELETE"):
        return b""
    # A page of another site can send every type but this one without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise BadRequest("send the content-type application/json", http_code=415)
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BadRequest(
                        f"a body holds {MAX_BODY_BYTES} bytes at most; stream a longer recording "
                        "over gRPC",
                        http_code=413,
                    )
    except TimeoutError:
        raise BadRequest(f"the body took longer than {_BODY_S:.0f} s", http_code=408) from None
    except ClientDisconnect:
        raise BadRequest("the client left", http_code=499) from None
    return bytes(body)


def read_timeout_s(request: Request) -> float:
    """The seconds that a call may take, from `X-Server-Timeout`."""
    text = request.headers.get("x-server-timeout")
    if text is None:
        return TIMEOUT_S
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        raise BadRequest(f"X-Server-Timeout is not over 0 and at most {_MAX_TIMEOUT_S:.0f} seconds")
    return timeout_s


async def show_openapi(request: Request) -> Response:
    path = next(path for path in _OPENAPI_FILES if path.exists())
    return FileResponse(path, media_type="application/yaml")


@contextlib.asynccontextmanager
async def _take(places: asyncio.Semaphore) -> AsyncIterator[None]:
    if places.locked():
        raise _make_busy()
    async with places:
        yield


def _make_busy() -> RequestRefused:
    return RequestRefused(
        grpc.StatusCode.UNAVAILABLE,
        "too many requests at once; try again",
        headers={"retry-after": "1"},
    )


def _read_request_id(metadata: grpc.aio.Metadata | None) -> dict[str, str]:
    found = dict(metadata or ()).get(_REQUEST_ID)
    return {_REQUEST_ID: found} if isinstance(found, str) else {}
