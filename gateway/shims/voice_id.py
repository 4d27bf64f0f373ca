"""Amazon Connect Voice ID's API of 2021-09-27: EvaluateSession, and the operations on speakers.

A session is a call that this gateway verifies, or has within the last hour, and its name is the
platform's id of the call. The tenant is that of the key which belongs to the access key id; a
domain's id is echoed. AWS's own credentials are never seen: the pairs are the operator's.
"""

import hashlib
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sayso
from sayso import AsyncClient, Decision, SaysoError, Speaker
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.calls import CallRecord, Calls
from gateway.clients import Clients
from gateway.documents import parse_json
from gateway.shims.bodies import BodyRefused, Slots, read_body
from gateway.shims.scores import scale_decision
from gateway.shims.sigv4 import SignatureRefused, verify

log = logging.getLogger(__name__)

Answer = dict[str, Any]

_SERVICE = "voiceid"
_TARGET = "VoiceID."
_MAX_BODY_BYTES = 64 * 1024
_DOMAIN_ID = re.compile(r"[a-zA-Z0-9]{22}", re.ASCII)
_ACCEPTANCE_THRESHOLD = 50
_DECISIONS = {
    "ACCEPTED": "ACCEPT",
    "REJECTED": "REJECT",
    "INCONCLUSIVE": "NOT_ENOUGH_SPEECH",
    "NOT_ENROLLED": "SPEAKER_NOT_ENROLLED",
    "OPTED_OUT": "SPEAKER_OPTED_OUT",
    "EXPIRED": "SPEAKER_EXPIRED",
}
_STATES = {"ENROLLED": "ENROLLED", "EXPIRED": "EXPIRED", "OPTED_OUT": "OPTED_OUT"}
_ERRORS: tuple[tuple[type[SaysoError], int, str], ...] = (
    (sayso.Unauthenticated, 403, "UnrecognizedClientException"),
    (sayso.PermissionDenied, 403, "AccessDeniedException"),
    (sayso.NotFound, 400, "ResourceNotFoundException"),
    (sayso.InvalidArgument, 400, "ValidationException"),
    (sayso.FailedPrecondition, 400, "ConflictException"),
    (sayso.Aborted, 400, "ConflictException"),
    (sayso.Overloaded, 429, "ThrottlingException"),
    (sayso.TimedOut, 503, "InternalServerException"),
    (sayso.Unavailable, 503, "InternalServerException"),
)


class Refused(Exception):
    """An error in Voice ID's shape."""

    def __init__(self, code: str, message: str, *, status: int = 400, **fields: str) -> None:
        super().__init__(message)
        self.status = status
        self.answer = {"__type": code, "Message": message, **fields}


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A secret access key of the operator's, and the key of the server that it stands for."""

    secret: str
    credential: str


class VoiceId:
    """Answers requests to `/`. `keys` are by access key id; `public_host` is how clients address
    the gateway if a proxy changes it (empty: it does not)."""

    def __init__(
        self,
        calls: Calls,
        clients: Clients,
        keys: Mapping[str, AccessKey],
        *,
        public_host: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._calls = calls
        self._clients = clients
        self._keys = keys
        self._secrets = {key_id: key.secret for key_id, key in keys.items()}
        self._public_host = public_host
        self._now = now
        self._slots = Slots()

    async def answer(self, request: Request) -> Response:
        """Answer a request: whatever goes wrong becomes an error of Voice ID."""
        try:
            async with self._slots.take():
                status, answer = 200, await self._answer(request)
        except Refused as error:
            status, answer = error.status, error.answer
        except SignatureRefused as error:
            log.warning("Voice ID: refused: %s", error.message)
            status, answer = 403, {"__type": error.code, "Message": error.message}
        except BodyRefused as error:
            code = "ThrottlingException" if error.status == 429 else "ValidationException"
            status, answer = error.status, {"__type": code, "Message": error.message}
        except SaysoError as error:
            status, answer = _describe(error)
        return JSONResponse(
            answer,
            status,
            {"x-amzn-RequestId": str(uuid.uuid4())},
            media_type="application/x-amz-json-1.0",
        )

    async def _answer(self, request: Request) -> Answer:
        if "authorization" not in request.headers:
            raise SignatureRefused(
                "MissingAuthenticationTokenException", "the request is not signed"
            )
        body = await read_body(request, _MAX_BODY_BYTES)
        hosts = {request.headers.get("host", ""), self._public_host} - {""}
        key_id = verify(
            request.headers,
            body,
            self._secrets,
            service=_SERVICE,
            hosts=hosts,
            now=self._now(),
        )
        name = request.headers.get("x-amz-target", "").removeprefix(_TARGET)
        fields = _parse(body)
        domain_id = _read_text(fields, "DomainId") if name in _OPERATIONS else ""
        if name not in _OPERATIONS:
            raise Refused(
                "UnknownOperationException",
                f"Sayso has no counterpart of {name or 'this'} at this address; it has "
                f"{', '.join(_OPERATIONS)}. See docs/migrate/voice-id.md for the others",
            )
        if not _DOMAIN_ID.fullmatch(domain_id):
            raise Refused("ValidationException", "DomainId must be 22 letters or digits")
        credential = self._keys[key_id].credential
        if name == "EvaluateSession":
            return self._evaluate(fields, domain_id, credential)
        async with self._clients.use(credential) as client:
            return await _OF_SPEAKERS[name](client, fields, domain_id)

    def _evaluate(self, fields: Answer, domain_id: str, credential: str) -> Answer:
        """Only calls that were verified with this very key: another's are not found."""
        name = _read_text(fields, "SessionNameOrId")
        call = self._calls.find(name, credential, now=self._now())
        if call is None:
            raise Refused(
                "ResourceNotFoundException",
                "there is no such call at this gateway, of this key, within the last hour",
                ResourceType="SESSION",
            )
        answer = {
            "DomainId": domain_id,
            "SessionId": _make_id(name),
            "SessionName": name,
            "StreamingStatus": "ONGOING" if call.ended_at is None else "ENDED",
        }
        return answer | {"AuthenticationResult": _describe_result(call)}


def _describe_result(call: CallRecord) -> Answer:
    decision = call.decision
    result: Answer = {
        "AudioAggregationStartedAt": call.started_at.timestamp(),
        "Configuration": {"AcceptanceThreshold": _ACCEPTANCE_THRESHOLD},
        "Decision": "NOT_ENOUGH_SPEECH" if decision is None else _find_decision(decision),
    }
    if call.ended_at is not None:
        result["AudioAggregationEndedAt"] = call.ended_at.timestamp()
    if decision is None:
        return result
    result["AuthenticationResultId"] = _make_id(decision.decision_id).removeprefix("id#")
    if speaker_id := decision.matched_speaker_id or decision.speaker_id:
        result |= {"CustomerSpeakerId": speaker_id, "GeneratedSpeakerId": _make_id(speaker_id)}
    if (score := scale_decision(decision)) is not None:
        result["Score"] = int(100 * score)
    return result


def _find_decision(decision: Decision) -> str:
    if "NO_CLAIM" in decision.reasons:
        return "SPEAKER_ID_NOT_PROVIDED"
    return _DECISIONS[decision.outcome]


async def describe_speaker(client: AsyncClient, fields: Answer, domain_id: str) -> Answer:
    speaker = await client.speakers.get(_read_speaker_id(fields))
    return {"Speaker": _describe_speaker(speaker, domain_id)}


async def opt_out_speaker(client: AsyncClient, fields: Answer, domain_id: str) -> Answer:
    speaker = await client.speakers.opt_out(_read_speaker_id(fields))
    return {"Speaker": _describe_speaker(speaker, domain_id)}


async def delete_speaker(client: AsyncClient, fields: Answer, domain_id: str) -> Answer:
    await client.speakers.delete(_read_speaker_id(fields))
    return {}


async def list_speakers(client: AsyncClient, fields: Answer, domain_id: str) -> Answer:
    most = fields.get("MaxResults", 100)
    if type(most) is not int or not 1 <= most <= 100:
        raise Refused("ValidationException", "MaxResults must be 1 to 100")
    token = _read_text(fields, "NextToken") if "NextToken" in fields else ""
    speakers, next_token = await client.speakers.list_page(page_size=most, page_token=token)
    summaries = [_describe_speaker(speaker, domain_id) for speaker in speakers]
    more = {"NextToken": next_token} if next_token else {}
    return {"SpeakerSummaries": summaries, **more}


_OF_SPEAKERS: Mapping[str, Callable[[AsyncClient, Answer, str], Awaitable[Answer]]] = {
    "DescribeSpeaker": describe_speaker,
    "ListSpeakers": list_speakers,
    "OptOutSpeaker": opt_out_speaker,
    "DeleteSpeaker": delete_speaker,
}
_OPERATIONS = ("EvaluateSession", *_OF_SPEAKERS)


def _describe_speaker(speaker: Speaker, domain_id: str) -> Answer:
    times = {"CreatedAt": speaker.created_at, "UpdatedAt": speaker.updated_at}
    return {
        "DomainId": domain_id,
        "CustomerSpeakerId": speaker.speaker_id,
        "GeneratedSpeakerId": _make_id(speaker.speaker_id),
        "Status": _STATES.get(speaker.state, "PENDING"),
        **{name: time.timestamp() for name, time in times.items() if time is not None},
    }


def _make_id(name: str) -> str:
    """An id as Voice ID generates them, the same for one name."""
    return "id#" + hashlib.sha256(name.encode()).hexdigest()[:22]


def _read_speaker_id(fields: Answer) -> str:
    speaker_id = _read_text(fields, "SpeakerId")
    if speaker_id.startswith("id#"):
        raise Refused(
            "ValidationException", "Sayso keeps no generated ids; name the CustomerSpeakerId"
        )
    return speaker_id


def _parse(body: bytes) -> Answer:
    try:
        fields = parse_json(body)
    except ValueError:
        raise Refused("SerializationException", "the body is not JSON") from None
    if not isinstance(fields, dict):
        raise Refused("SerializationException", "the body is no JSON object")
    return fields


def _read_text(fields: Answer, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise Refused("ValidationException", f"{name} is missing, or no text")
    return value


def _describe(error: SaysoError) -> tuple[int, Answer]:
    for kind, status, code in _ERRORS:
        if isinstance(error, kind):
            extra = {"ResourceType": "SPEAKER"} if kind is sayso.NotFound else {}
            return status, {"__type": code, "Message": error.message, **extra}
    log.error("Voice ID: %s", error)
    return 500, {"__type": "InternalServerException", "Message": "the gateway's log says why"}
