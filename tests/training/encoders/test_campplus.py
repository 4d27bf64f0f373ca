from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.encoders.campplus import (
    SEGMENT_FRAMES,
    CamPlusPlus,
    ContextMask,
    DenseBlock,
    Head,
    segment_means,
    spread,
)
from training.encoders.size import count_parameters


def means_by_loop(hidden: Tensor) -> Tensor:
    """The mean of each frame's segment, at that frame."""
    out = torch.empty_like(hidden)
    for start in range(0, hidden.shape[2], SEGMENT_FRAMES):
        part = hidden[:, :, start : start + SEGMENT_FRAMES]
        out[:, :, start : start + SEGMENT_FRAMES] = part.mean(dim=2, keepdim=True)
    return out


@pytest.mark.parametrize("frames", [1, 99, 100, 101, 199, 200, 250])
def test_segments_are_a_hundred_frames_and_the_rest(frames: int) -> None:
    hidden = torch.randn(2, 3, frames)
    means = segment_means(hidden)
    assert means.shape == (2, 3, -(-frames // SEGMENT_FRAMES))
    assert torch.allclose(spread(means, frames), means_by_loop(hidden), atol=1e-5)


def test_the_mask_of_a_frame_is_that_of_its_utterance_and_segment() -> None:
    torch.manual_seed(0)
    layer = ContextMask(8, 4, dilation=2)
    hidden = torch.randn(2, 8, 150)
    context = hidden.mean(dim=2, keepdim=True) + means_by_loop(hidden)
    expected = layer.linear_local(hidden) * layer.mask(context)  # a mask a frame, as in the paper
    assert torch.allclose(layer(hidden), expected, atol=1e-5)


def test_every_dense_layer_sees_all_before_it() -> None:
    torch.manual_seed(0)
    block = DenseBlock(6, layers=3, growth=4, dilation=1).eval()
    hidden = torch.randn(1, 6, 20)
    total = hidden
    for layer in (block.tdnnd1, block.tdnnd2, block.tdnnd3):
        total = torch.cat([total, layer(total)], dim=1)
    assert total.shape == (1, 18, 20)
    assert torch.equal(block(hidden), total)


@pytest.mark.parametrize(("stride", "frames"), [(1, 31), (2, 16)])
def test_the_head_leaves_an_eighth_of_the_bands(stride: int, frames: int) -> None:
    assert Head(4, stride)(torch.randn(2, 1, 23, 31)).shape == (2, 4, 3, frames)


def test_parameter_count_is_that_of_the_published_network() -> None:
    published = CamPlusPlus(
        mels=80,
        head_width=32,
        width=128,
        growth=32,
        layers=(12, 24, 16),
        stride=1,
        embedding_dim=512,
    )
    assert count_parameters(published) == pytest.approx(7.18e6, abs=0.05e6)
