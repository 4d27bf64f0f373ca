from __future__ import annotations

import pytest
import torch
from torch import nn

from training.encoders import size
from training.frontends.log_mel import LogMel


@pytest.mark.parametrize(
    ("layer", "inputs", "expected"),
    [
        (nn.Conv1d(3, 5, 4, stride=2), (2, 3, 10), 2 * 4 * 5 * (3 * 4)),
        (nn.Conv1d(4, 6, 3, groups=2), (1, 4, 12), 10 * 6 * (2 * 3)),
        (nn.Conv2d(3, 5, 3, (2, 1), padding=1), (1, 3, 9, 7), 5 * 7 * 5 * (3 * 3 * 3)),
        (nn.Conv2d(4, 8, (3, 1), groups=4), (1, 4, 5, 6), 3 * 6 * 8 * (1 * 3)),
        (nn.Linear(20, 7), (3, 20), 3 * 7 * 20),
        (LogMel(mels=24), (1, 16000), 98 * (2 * 257 * 400 + 24 * 257)),
        (nn.BatchNorm1d(4), (2, 4, 8), 0),
    ],
)
def test_multiply_accumulates_are_outputs_times_their_inputs(
    layer: nn.Module, inputs: tuple[int, ...], expected: int
) -> None:
    assert size.count_macs(nn.Sequential(layer), torch.zeros(inputs)) == expected


def test_parameters_are_weights_and_no_statistics() -> None:
    assert size.count_parameters(nn.Sequential(nn.Conv2d(2, 3, 5), nn.BatchNorm2d(3))) == 153 + 6
