"""When keys were last used: noted in memory, written beside the key file now and then."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.access import last_use
from service.access.last_use import LastUses

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = AT + timedelta(hours=1)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_uses_are_written_at_the_end_and_not_before(keys: Path) -> None:
    async def serve() -> None:
        uses = LastUses(keys)
        async with uses.keep_written():
            uses.note("a", AT)
            assert last_use.read(keys) == {}

    asyncio.run(serve())
    assert last_use.read(keys) == {"a": AT}
    assert last_use.get_path(keys).stat().st_mode & 0o777 == 0o600


async def test_uses_are_written_now_and_then(keys: Path) -> None:
    uses = LastUses(keys)
    async with asyncio.timeout(10), uses.keep_written(every_s=0.01):
        uses.note("a", AT)
        while not last_use.read(keys):
            await asyncio.sleep(0.01)


def test_servers_keep_each_other_s_times_and_the_later_one_of_a_key(keys: Path) -> None:
    last_use.write(keys, {"a": LATER, "b": AT})
    last_use.write(keys, {"a": AT, "c": AT})
    assert last_use.read(keys) == {"a": LATER, "b": AT, "c": AT}


def test_a_damaged_file_is_written_anew(keys: Path) -> None:
    last_use.get_path(keys).write_text("[")
    assert last_use.read(keys) == {}
    last_use.write(keys, {"a": AT})
    assert last_use.read(keys) == {"a": AT}


def test_a_folder_that_cannot_be_written_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve() -> None:
        uses = LastUses(tmp_path / "missing" / "keys.json")
        async with uses.keep_written(every_s=0.01):
            for _ in range(5):
                uses.note("a", AT)
                await asyncio.sleep(0.02)

    with caplog.at_level(logging.INFO):
        asyncio.run(serve())
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the last use of keys is not kept")
