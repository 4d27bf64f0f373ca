from __future__ import annotations

import re

from training import reproduction


def test_the_line_is_a_shell_command_with_what_it_depends_on() -> None:
    line = reproduction.line(
        ["my recipe.toml", "--output", "runs/a"], seed=4, data_digest="0123456789abcdef", code="1+x"
    )
    assert line == (
        "sayso-train run 'my recipe.toml' --output runs/a  # seed 4, data 0123456789ab, code 1+x"
    )


def test_several_processes_are_started_by_torchrun() -> None:
    line = reproduction.line(["r"], seed=4, data_digest="", code="", processes=2)
    assert line.startswith("torchrun --nproc-per-node 2 -m training run r  #")


def test_code_version_is_that_of_the_project_and_its_sources() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}", reproduction.code_version())
