"""Calls that are announced before their audio comes (`CallService`)."""

from typing import Any

from sayso import messages
from sayso.calls import Call
from sayso.v1 import call_pb2
from sayso.v1.call_pb2_grpc import CallServiceStub
from sayso.values import AnnouncedCall, Claimed


def announce_call(
    call_id: str, speaker_id: Claimed, *, policy: str = "", valid_s: float = 60.0
) -> Call[AnnouncedCall]:
    """Says who is claimed to be calling, one speaker or one of several, for a call whose audio will
    come from a platform that cannot: `call_id` is the platform's own. The audio has to begin within
    `valid_s` seconds, at most 3600. `policy` names one of the server's."""
    claimed, alternatives = messages.split_claim(speaker_id)
    call = call_pb2.AnnouncedCall(
        call_id=call_id, speaker_ids=[claimed, *alternatives], policy_name=policy
    )
    request = call_pb2.AnnounceCallRequest(call=call, valid_s=valid_s)
    return Call(CallServiceStub, "AnnounceCall", request, _call)


def take_call(call_id: str) -> Call[AnnouncedCall]:
    """Take the announcement of a call, once: what receives its audio asks for it. Raises
    `NotFound` if the call was not announced, or if the announcement expired or was taken."""
    request = call_pb2.TakeCallRequest(call_id=call_id)
    return Call(CallServiceStub, "TakeCall", request, _call)


def _call(response: Any) -> AnnouncedCall:
    return messages.announced_call(response.call)
