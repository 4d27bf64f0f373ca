"""Azure Speaker Recognition's REST API of 2021-09-05, and of v2.0 before it: text-independent.

A profile is a speaker, and its id the speaker's id. What kind it is of, its locale and how much was
sent are in the speaker's metadata; identification profiles are members of one group as well. A
speaker who was enrolled otherwise is a profile of either kind.
"""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import sayso
from sayso import AsyncClient, Enrollment, SaysoError, Speaker
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.clients import Clients
from gateway.documents import parse_json
from gateway.shims.bodies import BodyRefused, Slots, read_body
from gateway.shims.scores import scale_decision, scale_llr

log = logging.getLogger(__name__)

Fields = dict[str, Any]
Operation = Callable[[AsyncClient, Request], Awaitable[Response]]

KEY_HEADER = "Ocp-Apim-Subscription-Key"
MAX_AUDIO_BYTES = 5 * 2**20
"""Of a recording, as in Azure."""

_MAX_JSON_BYTES = 4096
_MAX_CANDIDATES, _RANKED = 50, 5
_NOBODY = "00000000-0000-0000-0000-000000000000"
_KINDS = ("verification", "identification")
_LOCALE = re.compile(r"[a-zA-Z]{2}-?[a-zA-Z]{2}", re.ASCII)
_KIND, _LOCALE_OF, _COUNT, _LENGTH = "azure.kind", "azure.locale", "azure.count", "azure.length"
_ERRORS: tuple[tuple[type[SaysoError], int, str], ...] = (
    (sayso.Unauthenticated, 401, "Unauthorized"),
    (sayso.PermissionDenied, 403, "Forbidden"),
    (sayso.NotFound, 404, "NotFound"),
    (sayso.InvalidArgument, 400, "InvalidRequest"),
    (sayso.SpeakerLocked, 403, "Forbidden"),
    (sayso.FailedPrecondition, 409, "Conflict"),
    (sayso.Aborted, 409, "Conflict"),
    (sayso.Overloaded, 429, "TooManyRequests"),
    (sayso.TimedOut, 503, "ServiceUnavailable"),
    (sayso.Unavailable, 503, "ServiceUnavailable"),
)


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def list_routes(clients: Clients, group: str) -> list[BaseRoute]:
    """The routes of both versions; `group` is of identification profiles."""
    azure = Azure(clients, group)
    routes: list[BaseRoute] = []
    for base, mark in (
        ("/speaker-recognition/{kind}/text-independent/profiles", ":"),
        ("/speaker/{kind}/v2.0/text-independent/profiles", "/"),
    ):
        routes += [
            azure.route(base, "POST", azure.create),
            azure.route(base, "GET", azure.list_profiles),
            azure.route(f"{base}{mark}identifySingleSpeaker", "POST", azure.identify),
            azure.route(base + "/{profile}/enrollments", "POST", azure.enroll),
            azure.route(base + "/{profile}" + mark + "verify", "POST", azure.verify),
            azure.route(base + "/{profile}" + mark + "reset", "POST", azure.reset),
            azure.route(base + "/{profile}", "GET", azure.get),
            azure.route(base + "/{profile}", "DELETE", azure.delete),
        ]
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    for prefix in ("/speaker-recognition", "/speaker"):
        routes.append(Route(prefix + "/{rest:path}", refuse, methods=methods))
    return routes


async def refuse(request: Request) -> Response:
    """Answer for what there is no counterpart of."""
    return _fail(
        501,
        "NotImplemented",
        "Sayso has no counterpart of this: it knows text-independent profiles, and neither "
        "passphrases nor activation phrases. See docs/migrate/azure.md",
    )


class Azure:
    def __init__(self, clients: Clients, group: str) -> None:
        self._clients = clients
        self._group = group
        self._slots = Slots()

    def route(self, path: str, method: str, operation: Operation) -> Route:
        async def answer(request: Request) -> Response:
            try:
                async with self._slots.take():
                    return await self._answer(request, operation)
            except Refused as error:
                return _fail(error.status, error.code, error.message)
            except BodyRefused as error:
                code = "TooManyRequests" if error.status == 429 else "InvalidRequest"
                return _fail(error.status, code, error.message)
            except SaysoError as error:
                return _describe_error(error)

        return Route(path, answer, methods=[method])

    async def _answer(self, request: Request, operation: Operation) -> Response:
        if request.path_params["kind"] not in _KINDS:
            return await refuse(request)
        if not (key := request.headers.get(KEY_HEADER)):
            raise Refused(
                401, "Unauthorized", f"show a key of the Sayso server in {KEY_HEADER}; no tokens"
            )
        async with self._clients.use(key) as client:
            return await operation(client, request)

    async def create(self, client: AsyncClient, request: Request) -> Response:
        locale = _parse_locale(await read_body(request, _MAX_JSON_BYTES))
        profile = await self._make(
            client, str(uuid.uuid4()), {_KIND: request.path_params["kind"], _LOCALE_OF: locale}
        )
        place = f"{str(request.url).partition('?')[0]}/{profile.speaker_id}"
        return JSONResponse(_describe(profile), 201, {"Location": place})

    async def _make(self, client: AsyncClient, profile_id: str, metadata: Fields) -> Speaker:
        profile = await client.speakers.update(profile_id, metadata=metadata, allow_missing=True)
        if metadata.get(_KIND) == "identification":
            try:
                await client.groups.add_members(self._group, [profile_id])
            except sayso.NotFound:
                await client.speakers.delete(profile_id)
                raise self._no_group() from None
        return profile

    async def list_profiles(self, client: AsyncClient, request: Request) -> Response:
        kind, query = request.path_params["kind"], request.query_params
        size = query.get("maxpagesize") or query.get("$top") or "100"
        if not (size.isascii() and size.isdecimal() and 1 <= int(size[:4]) <= 500):
            raise Refused(400, "InvalidRequest", "maxpagesize must be 1 to 500")
        speakers, token = await client.speakers.list_page(
            page_size=int(size), page_token=query.get("$skiptoken", "")
        )
        answer: Fields = {"value": [_describe(each) for each in speakers if _is_of(each, kind)]}
        if token:
            asked = {name: value for name, value in query.items() if name != "$skiptoken"}
            more = urlencode(asked | {"$skiptoken": token})
            answer["nextLink"] = f"{str(request.url).partition('?')[0]}?{more}"
            answer["@nextLink"] = answer["nextLink"]
        return JSONResponse(answer)

    async def get(self, client: AsyncClient, request: Request) -> Response:
        return JSONResponse(_describe(await self._read(client, request)))

    async def delete(self, client: AsyncClient, request: Request) -> Response:
        profile = await self._read(client, request)
        await client.speakers.delete(profile.speaker_id)
        return Response(status_code=204)

    async def reset(self, client: AsyncClient, request: Request) -> Response:
        """The profile without its voice: deleted, and made again under its id."""
        profile = await self._read(client, request)
        await client.speakers.delete(profile.speaker_id, etag=profile.etag)
        kept = {
            name: value for name, value in profile.metadata.items() if name not in (_COUNT, _LENGTH)
        }
        again = await self._make(
            client, profile.speaker_id, {_KIND: request.path_params["kind"]} | kept
        )
        return JSONResponse(_describe(again))

    async def enroll(self, client: AsyncClient, request: Request) -> Response:
        profile = await self._read(client, request)
        audio = await read_body(request, MAX_AUDIO_BYTES)
        count = int(_read_number(profile, _COUNT)) + 1
        enrollment = await client.enroll(
            profile.speaker_id,
            audio,
            metadata={**profile.metadata, _COUNT: str(count)},
            etag=profile.etag,
        )
        if not enrollment.stored or enrollment.speaker is None:
            raise Refused(400, "InvalidRequest", f"Not enrolled: {enrollment.explanation}")
        length_s = _read_number(profile, _LENGTH) + enrollment.audio_s
        metadata = {**enrollment.speaker.metadata, _LENGTH: f"{length_s:.2f}"}
        stored = await client.speakers.update(profile.speaker_id, metadata=metadata)
        return JSONResponse(_describe_enrollment(stored, enrollment, profile.net_speech_s), 201)

    async def verify(self, client: AsyncClient, request: Request) -> Response:
        if request.path_params["kind"] != "verification":
            return await refuse(request)
        profile = await self._read(client, request)
        audio = await read_body(request, MAX_AUDIO_BYTES)
        decision = await client.verify(profile.speaker_id, audio)
        if decision.outcome not in ("ACCEPTED", "REJECTED"):
            raise Refused(400, "InvalidRequest", decision.explanation)
        result = "Accept" if decision.accepted else "Reject"
        return JSONResponse({"recognitionResult": result, "score": scale_decision(decision)})

    async def identify(self, client: AsyncClient, request: Request) -> Response:
        """Whom of the group the voice matches best, if that is one of the profiles asked for."""
        if request.path_params["kind"] != "identification":
            return await refuse(request)
        asked = list(filter(None, request.query_params.get("profileIds", "").split(",")))
        if not 1 <= len(asked) <= _MAX_CANDIDATES:
            raise Refused(400, "InvalidRequest", f"profileIds must be 1 to {_MAX_CANDIDATES} ids")
        try:
            await client.groups.get(self._group)
        except sayso.NotFound:
            raise self._no_group() from None
        audio = await read_body(request, MAX_AUDIO_BYTES)
        found = await client.identify(self._group, audio, max_candidates=100)
        decision = found.decision
        if decision.outcome not in ("ACCEPTED", "REJECTED"):
            raise Refused(400, "InvalidRequest", decision.explanation)
        scores = {
            match.speaker_id: None
            if match.llr is None or decision.threshold_llr is None
            else scale_llr(match.llr, decision.threshold_llr)
            for match in found.candidates
        }
        ranked = [each for each in scores if each in asked]
        ranked += [each for each in asked if each not in scores]
        ranking = [{"profileId": each, "score": scores.get(each, 0.0)} for each in ranked[:_RANKED]]
        best = found.speaker_id
        identified = (
            {"profileId": best, "score": scores[best]}
            if best in asked
            else {"profileId": _NOBODY, "score": 0.0}
        )
        return JSONResponse({"identifiedProfile": identified, "profilesRanking": ranking})

    async def _read(self, client: AsyncClient, request: Request) -> Speaker:
        """The profile that the path names; raises `NotFound` if it is of the other kind."""
        profile = await client.speakers.get(request.path_params["profile"])
        if not _is_of(profile, request.path_params["kind"]):
            raise Refused(404, "NotFound", "there is no such profile of this kind")
        return profile

    def _no_group(self) -> Refused:
        return Refused(
            409,
            "Conflict",
            f"the group {self._group!r} of identification profiles is missing: "
            f"sayso groups create {self._group}",
        )


def _parse_locale(body: bytes) -> str:
    try:
        fields = parse_json(body)
    except ValueError:
        raise Refused(400, "InvalidRequest", "the body is not JSON") from None
    locale = fields.get("locale") if isinstance(fields, dict) else None
    if not isinstance(locale, str) or not _LOCALE.fullmatch(locale):
        raise Refused(400, "InvalidRequest", "locale must be like en-us")
    return locale.lower()


def _is_of(profile: Speaker, kind: str) -> bool:
    return profile.metadata.get(_KIND, kind) == kind


def _read_number(profile: Speaker, name: str) -> float:
    """What an earlier request noted in the metadata; 0 if anybody has put something else there."""
    try:
        number = float(profile.metadata.get(name, 0))
    except ValueError:
        return 0.0
    return number if 0 <= number < 1e9 else 0.0


def _describe(profile: Speaker) -> Fields:
    return {
        "profileId": profile.speaker_id,
        "locale": profile.metadata.get(_LOCALE_OF, "en-us"),
        "profileStatus": "Active",
        "createdDateTime": _format_time(profile.created_at),
        "lastUpdatedDateTime": _format_time(profile.updated_at),
        "modelVersion": profile.model_ids[0] if profile.model_ids else None,
        **_describe_progress(profile),
    }


def _describe_progress(profile: Speaker) -> Fields:
    return {
        "enrollmentStatus": "Enrolled" if profile.state == "ENROLLED" else "Enrolling",
        "enrollmentsCount": int(_read_number(profile, _COUNT)),
        **_spell_both("enrollmentsLength", _read_number(profile, _LENGTH)),
        **_spell_both("enrollmentsSpeechLength", profile.net_speech_s),
        "enrollmentSpeechLength": round(profile.net_speech_s, 2),
        **_spell_both("remainingEnrollmentsSpeechLength", profile.speech_needed_s),
    }


def _describe_enrollment(profile: Speaker, enrollment: Enrollment, before_s: float) -> Fields:
    return {
        "profileId": profile.speaker_id,
        **_describe_progress(profile),
        **_spell_both("audioLength", enrollment.audio_s),
        **_spell_both("audioSpeechLength", max(0.0, enrollment.net_speech_s - before_s)),
    }


def _spell_both(name: str, seconds: float) -> Fields:
    return {name: round(seconds, 2), f"{name}InSec": round(seconds, 2)}


def _format_time(time: datetime | None) -> str | None:
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _describe_error(error: SaysoError) -> Response:
    for kind, status, code in _ERRORS:
        if isinstance(error, kind):
            after = error.retry_after_s
            return _fail(status, code, error.message, after_s=after)
    log.error("Azure: %s", error)
    return _fail(500, "InternalServerError", "the gateway's log says why")


def _fail(status: int, code: str, message: str, *, after_s: float | None = None) -> Response:
    headers = {"x-ms-error-code": code}
    if status == 429 or after_s is not None:
        headers["Retry-After"] = str(max(1, round(after_s or 1)))
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)
