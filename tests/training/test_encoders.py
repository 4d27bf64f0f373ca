from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from training import config, encoders
from training.encoders import size
from training.encoders.ecapa import AttentiveStatistics, EcapaTdnn, Res2, SqueezeExcitation


def recipe(stride: int = 1) -> config.Recipe:
    return config.parse(
        f"""
        losses = [{{ name = "triplet" }}]
        encoder = {{ name = "ecapa", width = 32, groups = 4, stride = {stride} }}
        schedule = {{ steps = 1 }}
        """
    )


def speech(batch: int, samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    rough = 0.1 * torch.randn(batch, samples, generator=generator)
    return functional.avg_pool1d(rough, 9, stride=1, padding=4)


def stirred(model: nn.Module) -> nn.Module:
    """In evaluation mode, with running statistics that are not the initial ones."""
    with torch.no_grad():
        for _ in range(3):
            model(speech(8, 8000))
    return model.eval()


@pytest.mark.parametrize("stride", [1, 2])
def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(stride: int) -> None:
    torch.manual_seed(0)
    model = stirred(encoders.build(recipe(stride)))
    batch = speech(5, 12345)
    with torch.inference_mode():
        together = model(batch)
        alone = torch.cat([model(one[None]) for one in batch])
    assert together.shape == (5, 192)
    assert torch.allclose(together.norm(dim=1), torch.ones(5), atol=1e-6)
    assert functional.cosine_similarity(together, alone).min() > 0.999999


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the TorchScript exporter
@pytest.mark.parametrize("stride", [1, 2])
def test_exports_to_onnx_with_dynamic_batch_and_samples(tmp_path: Path, stride: int) -> None:
    torch.manual_seed(0)
    model = stirred(encoders.build(recipe(stride)))
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        model,
        (speech(2, 16000),),
        str(path),
        dynamo=False,
        input_names=["waveform"],
        output_names=["embedding"],
        dynamic_axes={"waveform": {0: "batch", 1: "samples"}, "embedding": {0: "batch"}},
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch, samples in [(1, 16000), (3, 8000), (1, 48000), (2, 31999), (7, 4321)]:
        waveform = speech(batch, samples)
        (served,) = session.run(None, {"waveform": waveform.numpy()})
        with torch.inference_mode():
            trained = model(waveform).numpy()
        assert np.sum(served * trained, axis=1).min() > 0.99999


def test_gradient_reaches_every_weight() -> None:
    torch.manual_seed(0)
    model = EcapaTdnn(mels=20, width=16, groups=4, stride=1, embedding_dim=8)
    out = model(torch.randn(4, 20, 50))
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_first_res2_group_passes_and_the_others_see_their_predecessor() -> None:
    torch.manual_seed(0)
    block = Res2(8, groups=4, dilation=2).eval()
    hidden = torch.randn(1, 8, 30)
    out = block(hidden)
    assert torch.equal(out[:, :2], hidden[:, :2])
    assert torch.equal(out[:, 2:4], block.blocks[0](hidden[:, 2:4]))
    assert torch.equal(out[:, 4:6], block.blocks[1](hidden[:, 4:6] + out[:, 2:4]))
    assert torch.equal(out[:, 6:], block.blocks[2](hidden[:, 6:] + out[:, 4:6]))


def test_squeeze_excitation_scales_whole_channels() -> None:
    torch.manual_seed(0)
    hidden = torch.rand(2, 6, 9) + 0.5
    gains = SqueezeExcitation(6)(hidden) / hidden
    assert torch.allclose(gains, gains[:, :, :1].expand_as(gains))
    assert ((gains > 0) & (gains < 1)).all()


def test_pooling_of_even_attention_is_mean_and_deviation() -> None:
    pool = AttentiveStatistics(6).eval()
    last = pool.attention[2]
    assert isinstance(last, nn.Conv1d)
    nn.init.zeros_(last.weight)
    hidden = torch.randn(2, 6, 40)
    expected = torch.cat([hidden.mean(dim=2), hidden.std(dim=2, correction=0)], dim=1)
    assert torch.allclose(pool(hidden), expected, atol=1e-5)


def test_pooling_of_constant_frames_has_a_finite_gradient() -> None:
    hidden = torch.ones(2, 6, 40, requires_grad=True)
    AttentiveStatistics(6)(hidden).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_parameter_count_is_that_of_the_published_network() -> None:
    published = EcapaTdnn(mels=80, width=512, groups=8, stride=1, embedding_dim=192)
    assert size.parameters(published) == pytest.approx(6.2e6, abs=0.1e6)


def test_multiply_accumulates_are_outputs_times_their_inputs() -> None:
    layers = nn.Sequential(nn.Conv1d(3, 5, 4, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(20, 7))
    conv, linear = 4 * 5 * (3 * 4), 20 * 7
    assert size.multiply_accumulates(layers, torch.zeros(1, 3, 10)) == conv + linear
