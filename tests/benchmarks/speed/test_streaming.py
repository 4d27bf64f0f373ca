"""The search for the highest number of calls, and calls held with a real server."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.figures import above, below, figure
from benchmarks.speed.callers import MESSAGE_S, Heard, Load, hold_calls
from benchmarks.speed.streaming import FIRST, REPEATS, Trial, confirm, find_highest, read_call_audio
from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips


def trial(calls: int, late_s: float, failures: tuple[str, ...] = ()) -> Trial:
    heard = Heard(np.full(100, late_s), np.zeros(100), 0.8, 100, 0, failures, 0.5)
    return Trial(calls, heard, 1.0, 0.0)


@pytest.mark.parametrize("limit", [1, 7, 20, 33, 61, 250])
def test_the_highest_number_is_found(limit: int) -> None:
    tried: list[int] = []

    def attempt(calls: int) -> Trial:
        tried.append(calls)
        return trial(calls, 0.1 if calls <= limit else 5.0)

    best = find_highest(attempt, FIRST)
    assert best is not None
    assert limit / 1.07 - 1 <= best.calls <= limit
    assert len(tried) < 12


def test_none_is_found_where_none_is_held() -> None:
    assert find_highest(lambda calls: trial(calls, 1.0), FIRST) is None


def test_a_number_that_was_held_once_by_chance_is_not_told() -> None:
    tried: list[int] = []

    def attempt(calls: int) -> Trial:
        tried.append(calls)
        return trial(calls, 0.1 if calls <= 85 else 0.4)

    trials = confirm(attempt, trial(90, 0.2))
    assert [each.calls for each in trials] == [85] * REPEATS
    assert tried == [90] * (REPEATS - 1) + [85] * REPEATS
    assert confirm(lambda calls: trial(calls, 1.0), trial(2, 0.2)) == []
    assert len(confirm(lambda calls: trial(calls, 0.1), trial(2, 0.2))) == REPEATS


def test_a_failed_call_is_not_held() -> None:
    assert trial(3, 0.1).succeeded
    assert not trial(3, 0.1, ("UNAVAILABLE: gone",)).succeeded
    assert not trial(3, 0.31).succeeded


def test_a_figure_is_held_to_its_side_of_the_target() -> None:
    assert figure("n", [3, 1, 2], "s", below(2), "")["holds"]
    assert not figure("n", [2.1], "s", below(2), "")["holds"]
    assert figure("n", [2], "calls", above(2), "")["holds"]
    assert figure("n", [3, 1, 2], "s", None, "")["spread"] == [1, 3]


@pytest.mark.skipif(not SHIPPED_MODEL.is_file(), reason=f"no {SHIPPED_MODEL.name} in models/")
def test_calls_are_heard_and_timed(tmp_path: Path) -> None:
    with SaysoServer(store=f"sqlite:///{tmp_path}/sayso.db") as server:
        with server.client() as sayso:
            sayso.enroll("slt", clips("slt", "enroll")[0])
        load = Load(
            server.address, "slt", read_call_audio(), calls=3, call_s=3.0, starts_s=0.2, pace=4
        )
        heard = hold_calls(load)
    assert heard.failures == ()
    assert heard.silent == 0
    assert heard.speech_share > 0.5
    assert len(heard.lags_s) == 3 * round(3.0 / MESSAGE_S)
    assert heard.results >= len(heard.latencies_s) >= 3
