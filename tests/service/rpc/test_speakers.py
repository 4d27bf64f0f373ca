"""`SpeakerService` on a real store, without a network."""

import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from sayso.v1 import speaker_pb2 as pb

from service.access import ANYONE, use_caller
from service.access.limits import TenantLimits
from service.audio.quality import Quality
from service.audit import Auditor, Origin
from service.contract import Contract
from service.decisions.policy import QualityGate
from service.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from service.inference.embedder import Utterance
from service.rpc.speakers import SpeakerRpc
from service.settings import EnrollmentRules, TenantQuota
from service.speakers.enrollment import Enroller, EnrollmentRequest
from service.speakers.lifecycle import Retention
from service.speakers.lockout import Lockout
from service.store import Group, LockRule, Store, open_store

DAY_S = 86_400.0
NO_CONTEXT: Any = None


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    with use_caller(ANYONE):
        yield


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path / 'sayso.db'}") as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def retention(clock: Clock) -> Retention:
    return Retention(100 * DAY_S, clock)


@pytest.fixture
def enroller(store: Store, retention: Retention) -> Enroller:
    return Enroller(
        store,
        contract=Contract("m", 16000, 32000, 16000, 8000, 2),
        gate=QualityGate(0.5, -math.inf, 1.0),
        min_speech_s=5.0,
        max_vectors=50,
        rules=EnrollmentRules(confirm=True),
        retention=retention,
    )


@pytest.fixture
def rpc(store: Store, enroller: Enroller, retention: Retention) -> SpeakerRpc:
    return SpeakerRpc(
        store=store,
        enroller=enroller,
        retention=retention,
        lockout=Lockout(store, LockRule(0)),
        auditor=Auditor(None, origin=lambda: Origin("default", "none")),
        allowed=TenantLimits(TenantQuota()),
    )


async def enrol(enroller: Enroller, speech_s: float = 6.0) -> None:
    quality = Quality(speech_s, speech_s, snr_db=None, clipping=0.0, peak_dbfs=-3.0)
    heard = Utterance(np.array([1, 0], np.float32), quality, windows=1)
    await enroller.add(EnrollmentRequest(ANYONE.tenant, "alice"), heard)


async def get(rpc: SpeakerRpc) -> pb.Speaker:
    response = await rpc.GetSpeaker(pb.GetSpeakerRequest(speaker_id="alice"), NO_CONTEXT)
    return response.speaker


async def update(
    rpc: SpeakerRpc, *paths: str, allow_missing: bool = False, **fields: object
) -> pb.Speaker:
    request = pb.UpdateSpeakerRequest(
        speaker=pb.Speaker(**({"speaker_id": "alice"} | fields)),  # type: ignore[arg-type]
        update_mask=FieldMask(paths=paths),
        allow_missing=allow_missing,
    )
    return (await rpc.UpdateSpeaker(request, NO_CONTEXT)).speaker


async def opt_out(rpc: SpeakerRpc) -> pb.Speaker:
    request = pb.OptOutSpeakerRequest(speaker_id="alice")
    return (await rpc.OptOutSpeaker(request, NO_CONTEXT)).speaker


async def opt_in(rpc: SpeakerRpc) -> pb.Speaker:
    request = pb.OptInSpeakerRequest(speaker_id="alice")
    return (await rpc.OptInSpeaker(request, NO_CONTEXT)).speaker


async def test_an_update_changes_what_the_mask_names_and_nothing_else(
    rpc: SpeakerRpc, enroller: Enroller
) -> None:
    await enrol(enroller)
    consent = pb.Consent(reference="form 27")
    made = await update(rpc, "metadata", "consent", metadata={"a": "1"}, consent=consent)
    assert made.metadata == {"a": "1"}
    assert made.consent.reference == "form 27"
    made = await update(rpc, "metadata", metadata={"b": "2"})
    assert made.metadata == {"b": "2"}
    assert made.consent.reference == "form 27"
    made = await update(rpc, "consent", metadata={"c": "3"})
    assert made.metadata == {"b": "2"}
    assert not made.HasField("consent")
    assert made.state == pb.SPEAKER_STATE_WITHOUT_CONSENT
    assert made == await get(rpc)
    made = await update(rpc, "consent", consent=consent)
    assert made.state == pb.SPEAKER_STATE_UNCONFIRMED


@pytest.mark.parametrize(
    ("paths", "fields", "field"),
    [
        ((), {}, "update_mask"),
        (("etag",), {}, "update_mask"),
        (("metadata", "voiceprints"), {}, "update_mask"),
        (("metadata.a",), {}, "update_mask"),
        (("state",), {"state": pb.SPEAKER_STATE_ENROLLED}, "update_mask"),
        (("consent",), {"consent": pb.Consent()}, "consent.reference"),
        (("metadata",), {"metadata": {"": "x"}}, "metadata"),
        (("metadata",), {"speaker_id": ""}, "speaker.speaker_id"),
    ],
)
async def test_a_bad_update_names_its_field(
    rpc: SpeakerRpc,
    enroller: Enroller,
    paths: tuple[str, ...],
    fields: dict[str, object],
    field: str,
) -> None:
    await enrol(enroller)
    before = await get(rpc)
    with pytest.raises(InvalidArgument) as caught:
        await update(rpc, *paths, **fields)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert await get(rpc) == before


async def test_an_unknown_path_is_told_by_name(rpc: SpeakerRpc) -> None:
    with pytest.raises(InvalidArgument, match="'colour' cannot be updated; choose of metadata"):
        await update(rpc, "colour")


async def test_a_stale_etag_changes_nothing(rpc: SpeakerRpc, enroller: Enroller) -> None:
    await enrol(enroller)
    stale = (await get(rpc)).etag
    fresh = await update(rpc, "metadata", metadata={"a": "1"}, etag=stale)
    with pytest.raises(Aborted):
        await update(rpc, "metadata", metadata={"a": "2"}, etag=stale)
    with pytest.raises(Aborted):
        await rpc.UndoEnrollment(
            pb.UndoEnrollmentRequest(speaker_id="alice", etag=stale), NO_CONTEXT
        )
    with pytest.raises(Aborted):
        await rpc.ConfirmEnrollment(
            pb.ConfirmEnrollmentRequest(speaker_id="alice", etag=stale), NO_CONTEXT
        )
    assert await get(rpc) == fresh


async def test_an_export_holds_the_vectors_the_groups_and_the_failures(
    rpc: SpeakerRpc, enroller: Enroller, store: Store
) -> None:
    await enrol(enroller)
    for name in ("vip", "fraud", "other"):
        await store.groups.create(ANYONE.tenant, Group(name, "", 1.0))
    for name in ("vip", "fraud"):
        await store.groups.add(ANYONE.tenant, name, ["alice"])
    rule = LockRule(3, 60.0, 200.0)
    await store.failures.change(ANYONE.tenant, "alice", lambda count: count.add_failure(5.0, rule))
    export = await rpc.ExportSpeaker(pb.ExportSpeakerRequest(speaker_id="alice"), NO_CONTEXT)
    assert export.speaker == await get(rpc)
    (voiceprint,) = export.voiceprints
    assert [list(vector.values) for vector in voiceprint.vectors] == [[1.0, 0.0]]
    assert list(export.group_names) == ["fraud", "vip"]
    assert export.failed_verifications.total == 1
    await store.delete(ANYONE.tenant, "alice")
    with pytest.raises(NotFound):
        await rpc.ExportSpeaker(pb.ExportSpeakerRequest(speaker_id="alice"), NO_CONTEXT)


async def test_what_is_not_there_is_not_found(rpc: SpeakerRpc) -> None:
    with pytest.raises(NotFound):
        await update(rpc, "metadata")
    with pytest.raises(NotFound):
        await rpc.UndoEnrollment(pb.UndoEnrollmentRequest(speaker_id="alice"), NO_CONTEXT)
    with pytest.raises(NotFound):
        await rpc.ConfirmEnrollment(pb.ConfirmEnrollmentRequest(speaker_id="alice"), NO_CONTEXT)


async def test_an_opt_out_is_remembered_of_one_who_never_enrolled(
    rpc: SpeakerRpc, enroller: Enroller, clock: Clock
) -> None:
    made = await opt_out(rpc)
    assert made.state == pb.SPEAKER_STATE_OPTED_OUT
    assert made.opt_out_time.seconds == int(clock.now)
    assert (await opt_out(rpc)).opt_out_time == made.opt_out_time
    with pytest.raises(FailedPrecondition, match="opted out") as refused:
        await enrol(enroller)
    assert refused.value.reason == "SPEAKER_OPTED_OUT"
    back = await opt_in(rpc)
    assert back.state == pb.SPEAKER_STATE_PENDING
    assert not back.HasField("opt_out_time")
    await enrol(enroller)


async def test_an_opt_out_outlives_deletion(rpc: SpeakerRpc, enroller: Enroller) -> None:
    await enrol(enroller)
    await opt_out(rpc)
    await rpc.DeleteSpeaker(pb.DeleteSpeakerRequest(speaker_id="alice"), NO_CONTEXT)
    with pytest.raises(FailedPrecondition, match="opted out"):
        await enrol(enroller)
    assert (await opt_in(rpc)).state == pb.SPEAKER_STATE_PENDING


async def test_nobody_opts_in_who_is_unknown(rpc: SpeakerRpc) -> None:
    with pytest.raises(NotFound):
        await opt_in(rpc)


async def test_an_opt_out_erases_at_once(rpc: SpeakerRpc, enroller: Enroller) -> None:
    await enrol(enroller)
    made = await opt_out(rpc)
    assert (len(made.voiceprints), made.undo_levels, made.progress.net_speech_s) == (0, 0, 0)
    assert made == await get(rpc)


async def test_one_who_is_enrolled_cannot_opt_in(rpc: SpeakerRpc, enroller: Enroller) -> None:
    await enrol(enroller)
    with pytest.raises(FailedPrecondition, match="opt in") as refused:
        await opt_in(rpc)
    assert refused.value.reason == "SPEAKER_NOT_OPTED_OUT"


async def test_a_confirmation_releases_and_an_undo_takes_back(
    rpc: SpeakerRpc, enroller: Enroller
) -> None:
    confirm = pb.ConfirmEnrollmentRequest(speaker_id="alice")
    undo = pb.UndoEnrollmentRequest(speaker_id="alice")
    await enrol(enroller, 2.0)
    with pytest.raises(FailedPrecondition, match="pending"):
        await rpc.ConfirmEnrollment(confirm, NO_CONTEXT)
    await enrol(enroller, 4.0)
    assert (await get(rpc)).undo_levels == 2
    released = (await rpc.ConfirmEnrollment(confirm, NO_CONTEXT)).speaker
    assert released.state == pb.SPEAKER_STATE_ENROLLED
    back = (await rpc.UndoEnrollment(undo, NO_CONTEXT)).speaker
    assert back.state == pb.SPEAKER_STATE_PENDING
    assert back.progress.net_speech_s == pytest.approx(2)
    empty = (await rpc.UndoEnrollment(undo, NO_CONTEXT)).speaker
    assert empty.state == pb.SPEAKER_STATE_PENDING
    assert len(empty.voiceprints) == 0
    with pytest.raises(FailedPrecondition, match="no enrollment"):
        await rpc.UndoEnrollment(undo, NO_CONTEXT)


async def test_an_expired_voice_is_said_to_be(
    rpc: SpeakerRpc, enroller: Enroller, clock: Clock
) -> None:
    await enrol(enroller)
    made = await get(rpc)
    assert made.expire_time.seconds == int(clock.now + 100 * DAY_S)
    clock.now += 100 * DAY_S
    listed = await rpc.ListSpeakers(pb.ListSpeakersRequest(), NO_CONTEXT)
    for speaker in (await get(rpc), *listed.speakers):
        assert speaker.state == pb.SPEAKER_STATE_EXPIRED
        assert speaker.progress.speech_needed_s == 5
    with pytest.raises(FailedPrecondition, match="expired"):
        await rpc.ConfirmEnrollment(pb.ConfirmEnrollmentRequest(speaker_id="alice"), NO_CONTEXT)


async def list_ids(rpc: SpeakerRpc, **criteria: object) -> list[str]:
    criterion = pb.SpeakerFilter(**criteria)  # type: ignore[arg-type]
    response = await rpc.ListSpeakers(pb.ListSpeakersRequest(filter=criterion), NO_CONTEXT)
    return [speaker.speaker_id for speaker in response.speakers]


async def test_a_list_holds_who_meets_the_whole_filter(
    rpc: SpeakerRpc, enroller: Enroller, clock: Clock
) -> None:
    await enrol(enroller)
    await update(rpc, "metadata", metadata={"branch": "north", "desk": "4"})
    clock.now += DAY_S
    await update(
        rpc, "metadata", speaker_id="bob", metadata={"branch": "north"}, allow_missing=True
    )
    assert await list_ids(rpc) == ["alice", "bob"]
    assert await list_ids(rpc, states=[pb.SPEAKER_STATE_PENDING]) == ["bob"]
    assert await list_ids(rpc, metadata={"branch": "north"}) == ["alice", "bob"]
    assert await list_ids(rpc, metadata={"branch": "north", "desk": "4"}) == ["alice"]
    assert await list_ids(rpc, metadata={"desk": "5"}) == []
    (voiceprint,) = (await get(rpc)).voiceprints
    assert await list_ids(rpc, model_id=voiceprint.model_id) == ["alice"]
    assert await list_ids(rpc, model_id="another") == []
    expires = (await get(rpc)).expire_time
    assert await list_ids(rpc, expires_before=expires) == []
    expires.seconds += 1
    assert await list_ids(rpc, expires_before=expires) == ["alice"]
    with pytest.raises(InvalidArgument) as refused:
        await list_ids(rpc, states=[pb.SPEAKER_STATE_UNSPECIFIED])
    assert refused.value.field == "filter.states"


async def test_a_lock_is_told_until_it_ends(
    rpc: SpeakerRpc, enroller: Enroller, store: Store, clock: Clock
) -> None:
    await enrol(enroller)
    assert not (await get(rpc)).HasField("lock_expire_time")
    rule = LockRule(1, 60.0, 200.0)
    await store.failures.change(
        ANYONE.tenant, "alice", lambda count: count.add_failure(clock.now, rule)
    )
    assert (await get(rpc)).lock_expire_time.seconds == int(clock.now + 60)
    clock.now += 60
    assert not (await get(rpc)).HasField("lock_expire_time")


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("", ["alice", "bob", "carla"]),
        ("speaker_id", ["alice", "bob", "carla"]),
        (" speaker_id  desc ", ["carla", "bob", "alice"]),
    ],
)
async def test_a_list_has_the_order_that_is_asked_for(
    rpc: SpeakerRpc, order_by: str, expected: list[str]
) -> None:
    for name in ("bob", "alice", "carla"):
        await update(rpc, "metadata", speaker_id=name, allow_missing=True)
    listed, token = [], ""
    while True:
        request = pb.ListSpeakersRequest(page_size=1, page_token=token, order_by=order_by)
        page = await rpc.ListSpeakers(request, NO_CONTEXT)
        listed += [speaker.speaker_id for speaker in page.speakers]
        token = page.next_page_token or token
        if not page.next_page_token:
            break
    assert listed == expected
    opposite = "speaker_id desc" if "desc" not in order_by else ""
    with pytest.raises(InvalidArgument, match="opposite order") as refused:
        await rpc.ListSpeakers(
            pb.ListSpeakersRequest(page_token=token, order_by=opposite), NO_CONTEXT
        )
    assert refused.value.field == "page_token"


@pytest.mark.parametrize("order_by", ["create_time", "speaker_id asc", "speaker_id, state", "desc"])
async def test_another_order_is_refused(rpc: SpeakerRpc, order_by: str) -> None:
    with pytest.raises(InvalidArgument, match="no other order") as refused:
        await rpc.ListSpeakers(pb.ListSpeakersRequest(order_by=order_by), NO_CONTEXT)
    assert refused.value.field == "order_by"
