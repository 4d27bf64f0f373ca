"""Two gloo processes with half a batch each, against one process with all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support import rank_of_two
from training.errors import ConfigError
from training.ranks import ALONE, Ranks, join_torchrun

ROOT = Path(__file__).parents[2]
Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """Of the single process, then of each of the two."""
    folder = tmp_path_factory.mktemp("ranks")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                rank_of_two.__file__,
                str(rank),
                str(folder / "meet"),
                folder / f"{rank}.pt",
            ],
            env=environ,
        )
        for rank in range(2)
    ]
    torch.set_num_threads(1)
    alone = rank_of_two.run(ALONE)
    assert [process.wait(timeout=900) for process in processes] == [0, 0]
    return [alone, *(torch.load(folder / f"{rank}.pt") for rank in range(2))]


def flat(result: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
    chosen = [value.flatten().double() for name, value in result.items() if name.startswith(kind)]
    return torch.cat(chosen)


@pytest.mark.parametrize("framework", rank_of_two.RECIPES)
def test_same_loss_same_gradients_same_state(results: list[Results], framework: str) -> None:
    alone, *ranks = (result[framework] for result in results)
    assert all(rank.keys() == alone.keys() for rank in ranks)
    mean_losses = torch.stack([rank["losses"] for rank in ranks]).mean(dim=0)
    assert torch.allclose(mean_losses, alone["losses"], atol=1e-6, rtol=1e-5)
    for name in alone.keys() - {"losses"}:
        assert torch.equal(ranks[0][name], ranks[1][name]), name
    for kind in ("gradient", "state"):
        whole, shared = (flat(result, kind) for result in (alone, ranks[0]))
        assert (whole - shared).norm() <= 1e-5 * whole.norm(), kind


@pytest.mark.parametrize("framework", ["supervised", "simclr"])
def test_every_rank_has_the_loss_of_all_negatives(results: list[Results], framework: str) -> None:
    losses = [result[framework]["losses"] for result in results]
    assert torch.allclose(losses[1], losses[0], atol=1e-6)
    assert torch.equal(losses[1], losses[2])


def test_what_the_first_rank_made_all_have(results: list[Results]) -> None:
    assert [result["from_first"] for result in results[1:]] == ["made by 0"] * 2


def test_alone_nothing_is_exchanged() -> None:
    rows = torch.randn(3, 2)
    assert ALONE.join(rows) is rows
    assert ALONE.share(7) == slice(0, 7)
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    ALONE.average_gradients([parameter])
    assert parameter.grad.tolist() == [1.0, 1.0]
    with join_torchrun({}) as ranks:
        assert ranks == ALONE


@pytest.mark.parametrize(("world", "torn_down"), [("1", True), ("2", False)])
@pytest.mark.parametrize("code", [None, 0, 3])
def test_ranks_end_without_taking_the_interpreter_down(
    world: str, torn_down: bool, code: int | None
) -> None:
    program = (
        "import atexit, sys\n"
        "from training.commands.terminal import end_at_once\n"
        "atexit.register(lambda: print('torn down'))\n"
        f"with end_at_once({{'WORLD_SIZE': '{world}'}}):\n"
        "    print('said')\n"
        f"    sys.exit({code})\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == (code or 0)
    assert ended.stdout.split("\n") == ["said", *(["torn down"] if torn_down else []), ""]


def test_shares_are_even_or_an_error() -> None:
    assert [Ranks(rank, 3).share(6) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(ConfigError, match=r"sampling\.speakers"):
        Ranks(0, 4).share(6)
