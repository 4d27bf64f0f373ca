"""`SpeakerService`: get, list, update, delete, undo, confirm, export, unlock, count migrated."""

from collections.abc import Callable
from dataclasses import replace

from google.protobuf.field_mask_pb2 import FieldMask
from sayso.v1 import speaker_pb2 as pb
from sayso.v1 import speaker_pb2_grpc

from service.access import ANYONE, current
from service.access.limits import TenantLimits
from service.audit import Action, Auditor
from service.calls.migration import count_migrated
from service.errors import ErrorReason, InvalidArgument, PermissionDenied
from service.rpc import messages, pages
from service.rpc.requests import Context, get_tenant
from service.speakers.enrollment import Enroller
from service.speakers.lifecycle import (
    Retention,
    change_speaker,
    confirm_enrollment,
    no_such_speaker,
    opt_in,
    opt_out,
    set_consent,
    undo_enrollment,
)
from service.speakers.lockout import Lockout
from service.store import FailureCount, Speaker, SpeakerState, Store
from service.store.failures import NO_FAILURES

Step = Callable[[Speaker, float], Speaker]
"""Returns the next version of a speaker, given the time in seconds since the epoch."""

_SHOWN_CHARACTERS = 40
_ORDERS = {(): False, ("speaker_id",): False, ("speaker_id", "desc"): True}
_STATES = {*pb.SpeakerState.values()} - {pb.SPEAKER_STATE_UNSPECIFIED}


class SpeakerRpc(speaker_pb2_grpc.SpeakerServiceServicer):
    def __init__(
        self,
        *,
        store: Store,
        enroller: Enroller,
        retention: Retention,
        lockout: Lockout,
        auditor: Auditor,
        allowed: TenantLimits,
    ) -> None:
        self._lockout = lockout
        self._auditor = auditor
        self._allowed = allowed
        self._store = store
        self._enroller = enroller
        self._retention = retention

    async def GetSpeaker(
        self, request: pb.GetSpeakerRequest, context: Context
    ) -> pb.GetSpeakerResponse:
        speaker, failures = await self._find(messages.parse_speaker_id(request.speaker_id))
        return pb.GetSpeakerResponse(
            speaker=self._build_speaker(speaker, failures),
            failed_verifications=messages.build_failures(failures),
        )

    async def ListSpeakers(
        self, request: pb.ListSpeakersRequest, context: Context
    ) -> pb.ListSpeakersResponse:
        meets, descending = _parse_filter(request.filter), _parse_order(request.order_by)
        page = await self._store.list(
            get_tenant(),
            limit=pages.parse_page_size(request.page_size),
            after=pages.decode_token(request.page_token, descending=descending),
            descending=descending,
        )
        speakers = map(self._build_speaker, page.speakers)
        return pb.ListSpeakersResponse(
            speakers=filter(meets, speakers),
            next_page_token=pages.encode_token(page.next_after, descending=descending),
        )

    async def UpdateSpeaker(
        self, request: pb.UpdateSpeakerRequest, context: Context
    ) -> pb.UpdateSpeakerResponse:
        message = request.speaker
        paths = _parse_paths(request.update_mask)
        steps = [_UPDATES[path](message) for path in paths]
        speaker_id = messages.parse_speaker_id(message.speaker_id, field="speaker.speaker_id")
        if request.allow_missing:
            await self._allowed.check_enrollment(self._store, get_tenant(), speaker_id)
        async with self._auditor.record_change(Action.UPDATE, speaker_id, fields=",".join(paths)):
            speaker = await self._change(
                speaker_id, *steps, etag=message.etag, allow_missing=request.allow_missing
            )
        return pb.UpdateSpeakerResponse(speaker=speaker)

    async def OptOutSpeaker(
        self, request: pb.OptOutSpeakerRequest, context: Context
    ) -> pb.OptOutSpeakerResponse:
        speaker_id = messages.parse_speaker_id(request.speaker_id)
        await self._allowed.check_enrollment(self._store, get_tenant(), speaker_id)
        async with self._auditor.record_change(Action.OPT_OUT, speaker_id):
            speaker = await self._change(
                speaker_id,
                lambda speaker, now: opt_out(speaker, now=now),
                etag=request.etag,
                allow_missing=True,
            )
        return pb.OptOutSpeakerResponse(speaker=speaker)

    async def OptInSpeaker(
        self, request: pb.OptInSpeakerRequest, context: Context
    ) -> pb.OptInSpeakerResponse:
        speaker_id = messages.parse_speaker_id(request.speaker_id)
        was_deleted = await self._was_deleted_after_opting_out(speaker_id)
        if was_deleted:
            await self._allowed.check_enrollment(self._store, get_tenant(), speaker_id)
        async with self._auditor.record_change(Action.OPT_IN, speaker_id):
            speaker = await self._change(
                speaker_id,
                lambda speaker, now: opt_in(speaker, now=now),
                etag=request.etag,
                allow_missing=was_deleted,
            )
        return pb.OptInSpeakerResponse(speaker=speaker)

    async def DeleteSpeaker(
        self, request: pb.DeleteSpeakerRequest, context: Context
    ) -> pb.DeleteSpeakerResponse:
        speaker_id = messages.parse_speaker_id(request.speaker_id)
        etag = request.etag or None
        async with self._auditor.record_change(Action.DELETE, speaker_id) as change:
            if not await self._store.delete(get_tenant(), speaker_id, expected_etag=etag):
                raise no_such_speaker()
        return pb.DeleteSpeakerResponse(receipt=messages.build_receipt(change.receipt))

    async def UndoEnrollment(
        self, request: pb.UndoEnrollmentRequest, context: Context
    ) -> pb.UndoEnrollmentResponse:
        speaker_id = messages.parse_speaker_id(request.speaker_id)
        async with self._auditor.record_change(Action.UNDO, speaker_id):
            speaker = await self._change(
                speaker_id,
                lambda speaker, now: undo_enrollment(speaker, now=now),
                etag=request.etag,
            )
        return pb.UndoEnrollmentResponse(speaker=speaker)

    async def ConfirmEnrollment(
        self, request: pb.ConfirmEnrollmentRequest, context: Context
    ) -> pb.ConfirmEnrollmentResponse:
        speaker_id = messages.parse_speaker_id(request.speaker_id)

        def step(speaker: Speaker, now: float) -> Speaker:
            _refuse_own(speaker)
            return confirm_enrollment(
                replace(speaker, state=self._retention.state(speaker)), now=now
            )

        async with self._auditor.record_change(Action.CONFIRM, speaker_id):
            speaker = await self._change(speaker_id, step, etag=request.etag)
        return pb.ConfirmEnrollmentResponse(speaker=speaker)

    async def ExportSpeaker(
        self, request: pb.ExportSpeakerRequest, context: Context
    ) -> pb.ExportSpeakerResponse:
        speaker_id = messages.parse_speaker_id(request.speaker_id)
        async with self._auditor.record_change(Action.EXPORT, speaker_id):
            speaker, failures = await self._find(speaker_id)
            groups = await self._store.groups.of(get_tenant(), speaker_id)
        return messages.build_export_response(
            self._build_speaker(speaker, failures), speaker, groups, failures
        )

    async def UnlockSpeaker(
        self, request: pb.UnlockSpeakerRequest, context: Context
    ) -> pb.UnlockSpeakerResponse:
        speaker_id = messages.parse_speaker_id(request.speaker_id)
        async with self._auditor.record_change(Action.UNLOCK, speaker_id):
            await self._lockout.unlock(get_tenant(), speaker_id)
        return pb.UnlockSpeakerResponse()

    async def GetMigration(
        self, request: pb.GetMigrationRequest, context: Context
    ) -> pb.GetMigrationResponse:
        succession = self._enroller.voices.succession
        current, *previous = succession.model_ids
        counts = await count_migrated(self._store, get_tenant(), succession, self._retention)
        return pb.GetMigrationResponse(
            model_id=current,
            previous_model_id=previous[0] if previous else "",
            moved=counts.moved,
            waiting=counts.waiting,
            begun=counts.begun,
            stranded=counts.stranded,
        )

    async def _find(self, speaker_id: str) -> tuple[Speaker, FailureCount]:
        """Read a speaker and its failure count; raises `NotFound`."""
        speaker, failures = await self._store.get_with_failures(get_tenant(), speaker_id)
        if speaker is None:
            raise no_such_speaker()
        return speaker, failures

    async def _was_deleted_after_opting_out(self, speaker_id: str) -> bool:
        """Return whether nothing but the opt-out is left of the speaker: it outlives deletion."""
        return (
            await self._store.get(get_tenant(), speaker_id) is None
            and await self._store.opted_out(get_tenant(), speaker_id) is not None
        )

    async def _change(
        self, speaker_id: str, *steps: Step, etag: str, allow_missing: bool = False
    ) -> pb.Speaker:
        now = self._retention.clock()

        def step(speaker: Speaker) -> Speaker:
            for apply in steps:
                speaker = apply(speaker, now)
            return speaker

        new = Speaker(
            get_tenant(), speaker_id, SpeakerState.PENDING, created_at=now, updated_at=now
        )
        changed = await change_speaker(
            self._store,
            get_tenant(),
            speaker_id,
            step,
            etag=etag,
            new=new if allow_missing else None,
        )
        return self._build_speaker(changed)

    def _build_speaker(self, speaker: Speaker, failures: FailureCount = NO_FAILURES) -> pb.Speaker:
        now = self._retention.clock()
        return messages.build_speaker(
            replace(speaker, state=self._retention.state(speaker)),
            self._enroller.voices.measure_counting(speaker),
            expires_at=self._retention.expires_at(speaker),
            locked_until=failures.locked_until if failures.locked_until > now else None,
        )


def _refuse_own(speaker: Speaker) -> None:
    """Raise `PermissionDenied` if the caller enrolled this voice itself. A server without
    credentials cannot distinguish callers, so it allows it."""
    caller = current()
    if caller is not ANYONE and caller.credential in speaker.enrolled_by:
        raise PermissionDenied(
            f"{caller.credential} enrolled this voice; have another credential confirm it",
            reason=ErrorReason.OWN_ENROLLMENT,
        )


def _parse_order(order_by: str) -> bool:
    """Parse an order (AIP-132); returns whether it is descending."""
    words = tuple(order_by.split())
    if words not in _ORDERS:
        raise InvalidArgument(
            "must be `speaker_id` or `speaker_id desc`; the server keeps no other order, so sort "
            "what it lists",
            field="order_by",
        )
    return _ORDERS[words]


def _parse_filter(message: pb.SpeakerFilter) -> Callable[[pb.Speaker], bool]:
    """Parse a filter into a test of a speaker as it is answered; an empty one passes all."""
    states = set(message.states)
    if not states <= _STATES:
        raise InvalidArgument("holds no state of this API", field="filter.states")
    metadata = messages.parse_metadata(message.metadata, field="filter.metadata")
    expires_before = (
        messages.parse_time(message.expires_before, field="filter.expires_before")
        if message.HasField("expires_before")
        else None
    )

    def meets(speaker: pb.Speaker) -> bool:
        return (
            (not states or speaker.state in states)
            and metadata.items() <= dict(speaker.metadata).items()
            and (
                expires_before is None
                or (
                    speaker.HasField("expire_time")
                    and speaker.expire_time.ToNanoseconds() < expires_before * 1e9
                )
            )
            and (
                not message.model_id
                or any(one.model_id == message.model_id for one in speaker.voiceprints)
            )
        )

    return meets


def _parse_paths(mask: FieldMask) -> list[str]:
    """Return the distinct paths of a mask, in the order in which they are applied."""
    if not mask.paths:
        raise InvalidArgument(
            f"names nothing; choose of {', '.join(_UPDATES)}", field="update_mask"
        )
    for path in mask.paths:
        if path not in _UPDATES:
            raise InvalidArgument(
                f"{path[:_SHOWN_CHARACTERS]!r} cannot be updated; choose of {', '.join(_UPDATES)}",
                field="update_mask",
            )
    return [path for path in _UPDATES if path in mask.paths]


def _update_metadata(message: pb.Speaker) -> Step:
    metadata = messages.parse_metadata(message.metadata)
    return lambda speaker, now: replace(speaker, metadata=metadata, updated_at=now)


def _update_consent(message: pb.Speaker) -> Step:
    consent = messages.parse_consent(message.consent) if message.HasField("consent") else None
    return lambda speaker, now: set_consent(speaker, consent, now=now)


_UPDATES: dict[str, Callable[[pb.Speaker], Step]] = {
    "metadata": _update_metadata,
    "consent": _update_consent,
}
