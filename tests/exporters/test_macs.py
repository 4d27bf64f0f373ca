import torch
from torch import Tensor, nn

from exporters.graph import trace
from exporters.macs import count_macs


class Counted(nn.Module):
    """A strided grouped convolution, an LSTM, a product of two activations, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 10, stride=10)
        self.grouped = nn.Conv1d(8, 8, 3, padding=1, groups=2)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.linear = nn.Linear(6, 4)

    def forward(self, waveform: Tensor) -> Tensor:
        hidden = self.grouped(self.first(waveform[:, None]))
        similar = hidden.transpose(1, 2) @ hidden
        _, (state, _) = self.lstm(similar @ hidden.transpose(1, 2))
        embedding: Tensor = self.linear(state[-1])
        return embedding


def test_every_product_is_counted() -> None:
    frames = 50
    expected = (
        frames * 8 * 10
        + frames * 8 * (4 * 3)
        + frames * frames * 8
        + frames * 8 * frames
        + frames * 4 * 6 * (8 + 6)
        + 6 * 4
    )
    assert count_macs(trace(Counted(), torch.randn(2, 300)), 500) == expected
