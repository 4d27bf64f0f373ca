"""The client for asyncio does on a real server what the blocking one does."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import soundfile
from sayso import (
    MAX_CHUNK_BYTES,
    AsyncClient,
    BatchItem,
    InvalidArgument,
    NotFound,
    RawAudio,
    Recording,
    SequentialTest,
    __version__,
)
from sayso.messages import MAX_MESSAGE_BYTES

from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT

SLT = ROOT / "demo" / "audio" / "slt"
ENROLL, VERIFY = SLT / "enroll-1.flac", SLT / "verify-1.flac"
FRAME_BYTES = 320


@pytest.fixture
async def sayso(sqlite_server: LocalServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(sqlite_server.address) as connected:
        yield connected


@pytest.fixture
async def slt(sayso: AsyncClient) -> AsyncIterator[str]:
    """The name of a speaker who is enrolled."""
    assert (await sayso.enroll("slt", str(ENROLL), metadata={"line": "mobile"})).stored
    yield "slt"
    await sayso.speakers.delete("slt")


def read_raw(path: Path) -> tuple[bytes, RawAudio]:
    samples, rate = soundfile.read(path, dtype="int16")
    return samples.tobytes(), RawAudio("LINEAR16", rate)


def cut(audio: bytes) -> Iterator[bytes]:
    """Frames of 10 to 20 ms."""
    return (audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES))


async def test_recordings(sayso: AsyncClient, slt: str) -> None:
    assert await sayso.ready()
    decision = await sayso.verify(slt, VERIFY)
    assert (decision.outcome, decision.audio_s > 1) == ("ACCEPTED", True)
    with VERIFY.open("rb") as file:
        assert (await sayso.verify(slt, file)).llr == decision.llr
    mine, theirs = await sayso.embed(ENROLL), await sayso.embed(VERIFY)
    assert mine
    assert theirs
    assert await sayso.compare(mine, theirs) == pytest.approx(decision.cosine, abs=0.05)


async def test_a_recording_that_cannot_be_used(sayso: AsyncClient, slt: str) -> None:
    with pytest.raises(FileNotFoundError):
        await sayso.verify(slt, "nowhere.wav")
    with pytest.raises(InvalidArgument) as caught:
        await sayso.verify(slt, b"no audio at all")
    assert caught.value.field == "audio"


async def test_a_call(sayso: AsyncClient, slt: str) -> None:
    audio, raw = read_raw(VERIFY)
    whole = sayso.verify_stream(slt, cut(audio), raw=raw)
    *_, last = [decision async for decision in whole]
    assert last.accepted
    early = sayso.verify_stream(
        slt, cut(audio * 4), raw=raw, sequential=SequentialTest(), stop_at_decision=True
    )
    *_, decided = [decision async for decision in early]
    assert decided.outcome == "ACCEPTED"


async def test_an_enrollment_by_call(sayso: AsyncClient) -> None:
    audio, raw = read_raw(ENROLL)
    progress = [each async for each in sayso.enroll_stream("caller", cut(audio), raw=raw)]
    assert (progress[-1].done, progress[-1].stored) == (True, True)
    await sayso.speakers.delete("caller")


async def test_a_call_that_is_left(sayso: AsyncClient, slt: str) -> None:
    audio, raw = read_raw(VERIFY)
    stream = sayso.verify_stream(slt, cut(audio), raw=raw)
    async with contextlib.aclosing(stream) as decisions:
        async for _ in decisions:
            break
    failed = (await sayso.speakers.get(slt)).failed_verifications
    assert failed is not None
    assert failed.consecutive == 0


async def test_a_batch(sayso: AsyncClient, tmp_path: Path) -> None:
    large = tmp_path / "large.wav"
    samples, rate = soundfile.read(ENROLL, dtype="float32")
    soundfile.write(large, list(samples) * 5, rate, subtype="DOUBLE", format="WAV")
    assert large.stat().st_size > 4 * 2**20

    async def list_items() -> AsyncIterator[BatchItem]:
        recordings: list[Recording] = [ENROLL, tmp_path / "missing.wav", large, b"none", VERIFY]
        for number, audio in enumerate(recordings):
            yield BatchItem(f"batch-{number}", audio)

    results = {result.index: result async for result in sayso.batch_enroll(list_items())}
    errors = [results[index].error for index in range(5)]
    assert [error and type(error) for error in errors] == [
        *(None, InvalidArgument, None, InvalidArgument, None)
    ]
    for index in (0, 2, 4):
        await sayso.speakers.delete(f"batch-{index}")


async def test_the_life_of_a_voice(sayso: AsyncClient, slt: str) -> None:
    assert [each.speaker_id async for each in sayso.speakers.list(page_size=1)] == [slt]
    for wanted, found in (
        (sayso.speakers.list(states=["ENROLLED", "EXPIRED"], metadata={"line": "mobile"}), [slt]),
        (sayso.speakers.list(states=["OPTED_OUT"]), []),
        (sayso.speakers.list(expires_before=datetime.now(UTC)), []),
        (sayso.speakers.list(model_id="none such"), []),
    ):
        assert [each.speaker_id async for each in wanted] == found
    updated = await sayso.speakers.update(slt, consent="form 27")
    assert (updated.consent, updated.metadata) == ("form 27", {"line": "mobile"})
    assert (await sayso.speakers.withdraw_consent(slt)).state == "WITHOUT_CONSENT"
    assert (await sayso.speakers.export(slt))["speaker"]["speaker_id"] == slt
    assert (await sayso.speakers.opt_out("shy")).state == "OPTED_OUT"
    assert (await sayso.speakers.opt_in("shy")).state == "PENDING"
    await sayso.speakers.unlock("shy")
    assert (await sayso.speakers.migration()).stranded == 0
    await sayso.speakers.delete("shy")
    with pytest.raises(NotFound):
        await sayso.speakers.get("shy")


async def test_the_server(sayso: AsyncClient) -> None:
    info = await sayso.server_info()
    assert info.version == __version__
    assert info.max_message_bytes == MAX_MESSAGE_BYTES
    assert info.max_chunk_bytes == MAX_CHUNK_BYTES


async def test_groups(sayso: AsyncClient, slt: str) -> None:
    assert (await sayso.groups.create("staff", "who works here")).members == 0
    await sayso.groups.add_members("staff", [slt])
    assert [group.name async for group in sayso.groups.list()] == ["staff"]
    assert [each async for each in sayso.groups.members("staff")] == [slt]
    found = await sayso.identify("staff", VERIFY)
    assert found.speaker_id == slt
    await sayso.groups.remove_members("staff", [slt])
    await sayso.groups.delete("staff")
    with pytest.raises(NotFound):
        await sayso.identify("staff", VERIFY)
