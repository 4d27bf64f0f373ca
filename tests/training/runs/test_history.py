from __future__ import annotations

from pathlib import Path

import pytest

from training.runs import history
from training.runs.reporting import Board
from training.runs.validation import Errors


def test_what_the_board_was_told_is_read_back(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        for step in (20, 40):
            board.on_step(step, {"loss/total": 1 / step, "learning_rate": 0.5})
        board.on_validation(40, Errors(0.25, 0.5), best=True)
        board.on_warning(40, "text is no scalar")
    told = history.read(tmp_path)
    assert set(told) == {"loss/total", "learning_rate", "eer/recorded", "eer/crossed"}
    assert told["loss/total"] == pytest.approx({20: 0.05, 40: 0.025})
    assert told[history.RECORDED] == {40: 0.25}
    assert told[history.CROSSED] == {40: 0.5}


def test_of_a_step_told_twice_the_later_stands(tmp_path: Path) -> None:
    for value, steps in ((1.0, (20, 40, 60)), (2.0, (40,))):
        with Board(tmp_path) as board:
            for step in steps:
                board.on_step(step, {"loss/total": value})
    assert history.read(tmp_path) == {"loss/total": {20: 1.0, 40: 2.0, 60: 1.0}}
    assert history.read(tmp_path, until=40) == {"loss/total": {20: 1.0, 40: 2.0}}


def test_a_file_cut_short_by_a_kill_is_read_up_to_there(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        for step in (20, 40):
            board.on_step(step, {"loss/total": 1.0})
    (file,) = tmp_path.glob(history.EVENTS)
    file.write_bytes(file.read_bytes()[:-5])
    assert history.read(tmp_path) == {"loss/total": {20: 1.0}}


def test_a_folder_without_a_run_tells_nothing(tmp_path: Path) -> None:
    assert history.read(tmp_path / "none") == {}


def test_the_best_validation_has_the_lowest_mean_and_of_equals_is_the_first() -> None:
    told = {
        history.RECORDED: {20: 0.2, 40: 0.1, 60: 0.2, 80: 0.0},
        history.CROSSED: {20: 0.4, 40: 0.4, 60: 0.3},
    }
    assert history.best_validation(told) == (40, 0.1, 0.4)
    assert history.best_validation({}) is None
