import logging
import os
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.reload import Reloaded


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Number:
    """A file with a number in it, and how often it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_times = 0

    def read(self) -> int:
        self.read_times += 1
        try:
            return int(self.path.read_text())
        except (OSError, ValueError) as error:
            raise SettingsError(f"{self.path.name} holds no number") from error

    def replace(self, text: str) -> None:
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.path)


@pytest.fixture
def number(tmp_path: Path) -> Number:
    made = Number(tmp_path / "number")
    made.replace("1")
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_follows_the_file_but_looks_once_a_second_at_most(number: Number, clock: Clock) -> None:
    reloaded = Reloaded((number.path,), number.read, clock=clock)
    assert reloaded.value == 1
    number.replace("2")
    clock.now_s += 0.9
    assert reloaded.value == 1
    clock.now_s += 0.2
    assert reloaded.value == 2


def test_an_unchanged_file_is_read_once(number: Number, clock: Clock) -> None:
    reloaded = Reloaded((number.path,), number.read, clock=clock)
    for _ in range(5):
        assert reloaded.value == 1
        clock.now_s += 2
    assert number.read_times == 1


def test_a_replacement_of_the_same_size_and_time_is_seen(number: Number, clock: Clock) -> None:
    reloaded = Reloaded((number.path,), number.read, clock=clock)
    assert reloaded.value == 1
    before = number.path.stat()
    number.replace("2")
    os.utime(number.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now_s += 2
    assert reloaded.value == 2


@pytest.mark.parametrize("breaking", ["no number", None])
def test_a_broken_file_leaves_the_value_and_is_logged_once(
    number: Number, clock: Clock, caplog: pytest.LogCaptureFixture, breaking: str | None
) -> None:
    reloaded = Reloaded((number.path,), number.read, clock=clock)
    assert reloaded.value == 1
    if breaking is None:
        number.path.unlink()
    else:
        number.replace(breaking)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.now_s += 2
            assert reloaded.value == 1
    assert len(caplog.records) == 1
    assert "number holds no number" in caplog.text
    number.replace("3")
    clock.now_s += 2
    assert reloaded.value == 3


def test_a_file_that_is_broken_from_the_start_is_an_error(number: Number) -> None:
    number.replace("no number")
    with pytest.raises(SettingsError, match="no number"):
        _ = Reloaded((number.path,), number.read).value
