"""`CallService`: calls that are announced before their audio comes."""

import time
from collections.abc import Callable, Iterable

from sayso.v1 import call_pb2 as pb
from sayso.v1 import call_pb2_grpc

from service.decisions.named_policies import NamedPolicies
from service.errors import ErrorReason, InvalidArgument, NotFound
from service.rpc import messages
from service.rpc.requests import Context, get_tenant
from service.store import AnnouncedCall, Store

MAX_CALL_ID_CHARACTERS = 128
MAX_VALID_S = 3600.0
_DEFAULT_VALID_S = 60.0


class CallRpc(call_pb2_grpc.CallServiceServicer):
    def __init__(
        self, *, store: Store, policies: NamedPolicies, clock: Callable[[], float] = time.time
    ) -> None:
        self._calls = store.calls
        self._policies = policies
        self._clock = clock

    async def AnnounceCall(
        self, request: pb.AnnounceCallRequest, context: Context
    ) -> pb.AnnounceCallResponse:
        self._policies.get(request.call.policy_name, field="call.policy_name")
        at = self._clock()
        call = AnnouncedCall(
            _parse_call_id(request.call.call_id, field="call.call_id"),
            _parse_speaker_ids(request.call.speaker_ids),
            request.call.policy_name,
            at + _parse_valid_s(request.valid_s),
        )
        await self._calls.announce(get_tenant(), call, at=at)
        return pb.AnnounceCallResponse(call=_build_call(call))

    async def TakeCall(self, request: pb.TakeCallRequest, context: Context) -> pb.TakeCallResponse:
        call_id = _parse_call_id(request.call_id)
        call = await self._calls.take(get_tenant(), call_id, at=self._clock())
        if call is None:
            raise NotFound(
                "no such call is announced: it never was, it has expired, or it was taken",
                reason=ErrorReason.CALL_NOT_FOUND,
            )
        return pb.TakeCallResponse(call=_build_call(call))


def _parse_call_id(value: str, *, field: str = "call_id") -> str:
    return messages.parse_name(value, most=MAX_CALL_ID_CHARACTERS, field=field)


def _parse_speaker_ids(values: Iterable[str]) -> tuple[str, ...]:
    first, *others = tuple(values) or ("",)
    claimed = messages.parse_speaker_id(first, field="call.speaker_ids")
    return claimed, *messages.parse_alternatives(others, claimed, field="call.speaker_ids")


def _parse_valid_s(value: float) -> float:
    if not 0 <= value <= MAX_VALID_S:
        raise InvalidArgument(f"must be 0 to {MAX_VALID_S:.0f} seconds", field="valid_s")
    return value or _DEFAULT_VALID_S


def _build_call(call: AnnouncedCall) -> pb.AnnouncedCall:
    return pb.AnnouncedCall(
        call_id=call.call_id,
        speaker_ids=call.speaker_ids,
        policy_name=call.policy,
        expire_time=messages.build_timestamp(call.expires_at),
    )
