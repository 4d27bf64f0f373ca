from __future__ import annotations

import pytest
import torch

from training.encoders import size
from training.encoders.ecapa import EcapaTdnn, Res2, SqueezeExcitation


def test_the_last_res2_group_passes_and_the_others_see_their_predecessor() -> None:
    torch.manual_seed(0)
    block = Res2(8, groups=4, dilation=2).eval()
    hidden = torch.randn(1, 8, 30)
    out = block(hidden)

    def convolved(index: int, part: torch.Tensor) -> torch.Tensor:
        return block.bns[index](block.convs[index](part).relu())

    assert torch.equal(out[:, :2], convolved(0, hidden[:, :2]))
    assert torch.equal(out[:, 2:4], convolved(1, hidden[:, 2:4] + out[:, :2]))
    assert torch.equal(out[:, 4:6], convolved(2, hidden[:, 4:6] + out[:, 2:4]))
    assert torch.equal(out[:, 6:], hidden[:, 6:])


def test_squeeze_excitation_scales_whole_channels() -> None:
    torch.manual_seed(0)
    hidden = torch.rand(2, 6, 9) + 0.5
    gains = SqueezeExcitation(6)(hidden) / hidden
    assert torch.allclose(gains, gains[:, :, :1].expand_as(gains))
    assert ((gains > 0) & (gains < 1)).all()


def test_parameter_count_is_that_of_the_published_network() -> None:
    published = EcapaTdnn(mels=80, width=512, groups=8, stride=1, embedding_dim=192)
    assert size.count_parameters(published) == pytest.approx(6.2e6, abs=0.1e6)
