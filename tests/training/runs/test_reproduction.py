from __future__ import annotations

import re

import numpy as np
import torch

from training.data.teacher import Targets
from training.runs import reproduction
from training.runs.reproduction import list_conditions

CPU = torch.device("cpu")
NOISES = (np.arange(9, dtype=np.int16), np.arange(5, dtype=np.int16))


def test_the_line_is_a_shell_command_with_what_it_depends_on() -> None:
    line = reproduction.describe_command(
        ["my recipe.toml", "--output", "runs/a"],
        seed=4,
        data_digest="0123456789abcdef",
        conditions={"code": "1+x", "noise": "n"},
    )
    assert line == (
        "to make this run again: sayso-train run 'my recipe.toml' --output runs/a"
        "  # seed 4, data 0123456789ab, code 1+x, noise n"
    )


def test_a_run_that_changed_on_its_way_has_no_line() -> None:
    line = reproduction.describe_command(
        ["r"], seed=4, data_digest="", conditions={}, changed=["noise"]
    )
    assert line.startswith("no command makes this run again, for noise changed")


def test_several_processes_are_started_by_torchrun() -> None:
    line = reproduction.describe_command(
        ["r"], seed=4, data_digest="", conditions={"processes": "2"}
    )
    assert ": torchrun --nproc-per-node 2 -m training run r  #" in line


def test_conditions_are_everything_that_decides_the_bits() -> None:
    torch.set_num_threads(1)
    heard = np.ones((2, 1, 3), np.float32)
    targets = Targets(heard, (1.0,), "", "t.onnx")
    before = list_conditions(noises=NOISES, targets=targets, device=CPU, processes=1)
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}", before["code"])
    others = Targets(heard * np.float32(0.5), (1.0,), "", "t.onnx")
    torch.set_num_threads(2)
    now = list_conditions(noises=NOISES[:1], targets=others, device=CPU, processes=2)
    torch.set_num_threads(1)
    assert reproduction.find_changes(before, now) == ["noise", "targets", "processes", "threads"]
    assert reproduction.find_changes(before, before) == []
