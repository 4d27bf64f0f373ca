"""What is erased is readable nowhere, while the store stays open."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.commands.tenants import app
from service.errors import StillReadable
from service.sealing import LocalMaster, Sealing
from service.speakers.lifecycle import expire, opt_out, record_enrollment, undo_enrollment
from service.store import SealedStore, Speaker, open_store, upkeep
from service.store.records import encode_voiceprint
from tests.support.master_keys import new_key

MakeSpeaker = Callable[..., Speaker]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "voices.db"


@pytest.fixture
async def opened(path: Path) -> AsyncIterator[SealedStore]:
    async with open_store(f"sqlite:///{path}") as store:
        yield store


def on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process' read of the file, such as a backup, that goes on."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM speaker").fetchone()
        yield database


async def _put(store: SealedStore, speaker: Speaker, step: Callable[[Speaker], Speaker]) -> None:
    await store.put(step(speaker), expected_etag=speaker.etag)


_ERASURES = {
    "delete": lambda store, speaker: store.delete(speaker.tenant, speaker.speaker_id),
    "opt-out": lambda store, speaker: _put(store, speaker, lambda s: opt_out(s, now=9.0)),
    "expiry": lambda store, speaker: _put(store, speaker, lambda s: expire(s, now=9.0)),
    "undo": lambda store, speaker: _put(store, speaker, lambda s: undo_enrollment(s, now=9.0)),
}


@pytest.mark.parametrize("erase", _ERASURES.values(), ids=_ERASURES)
async def test_an_erased_voice_is_in_no_file(
    erase: Callable[[SealedStore, Speaker], "asyncio.Future[object]"],
    opened: SealedStore,
    path: Path,
    make_speaker: MakeSpeaker,
) -> None:
    bare = make_speaker(voiceprints={})
    speaker = record_enrollment(bare, make_speaker(vectors=8, dim=64), now=2.0)
    voice = encode_voiceprint(speaker.voiceprints["model-a"])[32:]
    stored = await opened.put(speaker, expected_etag=None)
    assert voice in on_disk(path)
    await erase(opened, stored)
    assert voice not in on_disk(path)


async def test_an_erasure_that_another_process_hinders_is_made_up_for(
    opened: SealedStore, path: Path, make_speaker: MakeSpeaker, caplog: pytest.LogCaptureFixture
) -> None:
    speaker = await opened.put(make_speaker(vectors=8, dim=64), expected_etag=None)
    voice = encode_voiceprint(speaker.voiceprints["model-a"])[32:]
    with reading(path):
        assert await opened.delete(speaker.tenant, "alice")
        assert "can be read in the write-ahead log" in caplog.text
        with pytest.raises(StillReadable, match="another process"):
            await opened.settle()
        await opened.ping()
        assert voice in on_disk(path)
    await opened.ping()
    assert voice not in on_disk(path)


@pytest.fixture
def master(tmp_path: Path) -> Path:
    file = tmp_path / "master.key"
    file.touch(mode=0o600)
    file.write_text(new_key())
    return file


def test_a_key_is_called_destroyed_only_once_it_is(
    path: Path, master: Path, make_speaker: MakeSpeaker
) -> None:
    sealing = Sealing(LocalMaster.from_file(master))
    speaker = replace(make_speaker(), tenant="bank")

    async def enrol() -> bytes:
        async with open_store(f"sqlite:///{path}", sealing=sealing) as store:
            await store.put(speaker, expected_etag=None)
            return (await store.keys.read("bank")).wrapped[1]

    def erase_key() -> tuple[int, str]:
        environment = {"SAYSO_STORE": f"sqlite:///{path}"}
        result = CliRunner().invoke(app, ["erase-key", "bank", "--yes"], env=environment)
        return result.exit_code, result.output

    wrapped = asyncio.run(enrol())
    with contextlib.closing(sqlite3.connect(path)) as keeps_the_log, reading(path):
        keeps_the_log.execute("SELECT 1 FROM speaker").fetchone()
        code, output = erase_key()
        assert code == 1
        assert "destroyed" not in output
        assert "end it, and run this again" in " ".join(output.split())
        assert wrapped in on_disk(path)
    with contextlib.closing(sqlite3.connect(path)) as keeps_the_log:
        keeps_the_log.execute("SELECT 1 FROM speaker").fetchone()
        code, output = erase_key()
        assert (code, "destroyed" in output) == (0, True)
        assert wrapped not in on_disk(path)


async def test_no_earlier_key_is_left_by_a_rotation_that_says_so(
    path: Path, master: Path, make_speaker: MakeSpeaker
) -> None:
    sealing = Sealing(LocalMaster.from_file(master))
    async with open_store(f"sqlite:///{path}", sealing=sealing) as store:
        speaker = await store.put(make_speaker(), expected_etag=None)
        with reading(path), pytest.raises(StillReadable):
            await upkeep.rotate(store, speaker.tenant)
        assert await upkeep.seal(store, speaker.tenant) == 0
