"""`SpeakerService`: read, list, delete."""

import base64
import binascii

from sayso.v1 import speaker_pb2 as pb
from sayso.v1 import speaker_pb2_grpc

from service.enrolment import Enroller
from service.errors import InvalidArgument, NotFound
from service.rpc import messages
from service.rpc.requests import TENANT, Context
from service.store import Speaker, Store

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


class SpeakerRpc(speaker_pb2_grpc.SpeakerServiceServicer):
    def __init__(self, *, store: Store, enroller: Enroller) -> None:
        self._store = store
        self._enroller = enroller

    async def GetSpeaker(
        self, request: pb.GetSpeakerRequest, context: Context
    ) -> pb.GetSpeakerResponse:
        speaker = await self._store.get(TENANT, messages.speaker_id(request.speaker_id))
        if speaker is None:
            raise _no_such_speaker()
        return pb.GetSpeakerResponse(speaker=self._message(speaker))

    async def ListSpeakers(
        self, request: pb.ListSpeakersRequest, context: Context
    ) -> pb.ListSpeakersResponse:
        limit = request.page_size or DEFAULT_PAGE_SIZE
        if limit > MAX_PAGE_SIZE:
            raise InvalidArgument(f"must be at most {MAX_PAGE_SIZE}", field="page_size")
        page = await self._store.list(TENANT, limit=limit, after=_after(request.page_token))
        return pb.ListSpeakersResponse(
            speakers=map(self._message, page.speakers),
            next_page_token=_token(page.next_after),
        )

    async def DeleteSpeaker(
        self, request: pb.DeleteSpeakerRequest, context: Context
    ) -> pb.DeleteSpeakerResponse:
        speaker_id = messages.speaker_id(request.speaker_id)
        if not await self._store.delete(TENANT, speaker_id, expected_etag=request.etag or None):
            raise _no_such_speaker()
        return pb.DeleteSpeakerResponse()

    def _message(self, speaker: Speaker) -> pb.Speaker:
        return messages.speaker_message(speaker, self._enroller.progress(speaker))


def _no_such_speaker() -> NotFound:
    return NotFound("there is no such speaker; enrol it first, or list the speakers there are")


def _token(after: str | None) -> str:
    return "" if after is None else base64.urlsafe_b64encode(after.encode()).decode("ascii")


def _after(token: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(token).decode() if token else None
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidArgument(
            "is not one that this server gave; start from the first page", field="page_token"
        ) from error
