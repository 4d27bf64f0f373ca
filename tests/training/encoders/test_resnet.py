from __future__ import annotations

import pytest
import torch

from training.encoders.resnet import Block, ResNet34, bands_after
from training.encoders.size import count_macs, count_parameters


def test_a_block_adds_its_input_as_it_is_where_the_shape_stays() -> None:
    torch.manual_seed(0)
    block = Block(4, 4).eval()
    hidden = torch.randn(2, 4, 9, 11)
    residual = block.bn2(block.conv2(block.bn1(block.conv1(hidden)).relu()))
    assert torch.equal(block(hidden), (residual + hidden).relu())
    assert Block(4, 8)(hidden).shape == (2, 8, 9, 11)
    assert Block(4, 4, (2, 1))(hidden).shape == (2, 4, 5, 11)


@pytest.mark.parametrize("mels", [20, 23, 80])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_pool_expects_the_bands_that_the_stages_leave(mels: int, stride: int) -> None:
    model = ResNet34(mels=mels, width=8, stride=stride, embedding_dim=12).eval()
    frames = model.frames(torch.randn(2, mels, 49))
    bands = bands_after(mels, stride, 2, 2, 2)
    assert frames.shape == (2, 64 * bands, bands_after(49, stride, 2, 2, 2))
    assert model(torch.randn(2, mels, 49)).shape == (2, 12)


def test_thirty_four_layers() -> None:
    model = ResNet34(mels=80, width=32, stride=1, embedding_dim=192)
    blocks = [part for part in model.modules() if isinstance(part, Block)]
    assert 2 * len(blocks) + 2 == 34
    assert sum(map(count_parameters, blocks)) == pytest.approx(
        21.3e6 / 4, rel=0.01
    )  # of He et al., halved


def test_a_stride_of_two_quarters_the_work() -> None:
    features = torch.zeros(1, 80, 96)
    full, quarter = (
        count_macs(ResNet34(mels=80, width=8, stride=s, embedding_dim=12), features) for s in (1, 2)
    )
    assert full / quarter == pytest.approx(4, rel=0.05)
