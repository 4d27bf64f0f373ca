"""What holds for every encoder alike."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from exporters import macs, parity
from exporters.graph import trace
from exporters.voices import synthesize_voice
from training import config, encoders
from training.encoders import SpeakerEncoder
from training.encoders.size import count_macs

SECTIONS = (
    'name = "ecapa", width = 32, groups = 4',
    'name = "ecapa", width = 32, groups = 4, stride = 2',
    'name = "resnet34", width = 8',
    'name = "resnet34", width = 8, stride = 2',
    'name = "cam++", head_width = 4, width = 16, growth = 8, layers = [2, 1, 1]',
    'name = "cam++", head_width = 4, width = 16, growth = 8, layers = [2, 1, 1], stride = 2',
    'name = "ecapa", width = 32, groups = 4, layout = "wespeaker"',
    'name = "ecapa", width = 32, groups = 4, layout = "wespeaker-glob"',
    'name = "ecapa", width = 32, groups = 4, layout = "speechbrain"',
    'name = "resnet34", width = 8, layout = "wespeaker"',
    'name = "cam++", head_width = 4, width = 16, growth = 8, layers = [2, 1, 1], '
    'layout = "3d-speaker"',
)


def built(section: str, mels: int = 20) -> SpeakerEncoder:
    torch.manual_seed(0)
    return encoders.build(config.parse(recipe_of(section, mels)))


def recipe_of(section: str, mels: int = 20) -> str:
    return f"""
        losses = [{{ name = "triplet" }}]
        encoder = {{ {section}, embedding_dim = 24 }}
        front_end = {{ mels = {mels} }}
        schedule = {{ steps = 1 }}
    """


def speech(batch: int, samples: int) -> torch.Tensor:
    voices = [synthesize_voice(seed, rate=16000, samples=samples) for seed in range(batch)]
    return torch.from_numpy(np.stack(voices))


def stirred(model: nn.Module) -> nn.Module:
    """In evaluation mode, with the running statistics of made voices."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.momentum = None  # a plain mean over the batches seen
    with torch.no_grad():
        model(speech(4, 8000))
    return model.eval()


def test_every_encoder_and_layout_is_among_them() -> None:
    layouts = {
        (options.__name__, layout)
        for options in encoders.ENCODERS
        for layout in get_args(options.model_fields["layout"].annotation)
    }
    settings = [config.parse(recipe_of(section)).encoder for section in SECTIONS]
    assert {(type(one).__name__, one.layout) for one in settings} == layouts


@pytest.mark.parametrize("section", SECTIONS)
def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(section: str) -> None:
    model = stirred(built(section))
    batch = speech(3, 21345)
    with torch.inference_mode():
        together = model(batch)
        alone = torch.cat([model(one[None]) for one in batch])
    assert together.shape == (3, 24)
    assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-6)
    assert functional.cosine_similarity(together, alone).min() > 0.999999
    assert functional.cosine_similarity(together[:1], together[1:]).max() < 0.9999


@pytest.mark.parametrize("section", SECTIONS)
def test_the_exported_graph_gives_the_same_at_other_lengths_and_batches(section: str) -> None:
    model = stirred(built(section))
    served, trained = parity.graph_embed(trace(model, speech(2, 16000))), parity.module_embed(model)
    for batch in (1, 3):
        for samples in (8000, 36789):
            waveforms = speech(batch, samples).numpy()
            ours, theirs = served(waveforms), trained(waveforms)
            assert parity.least_cosine(ours, theirs) >= parity.FLOOR
            assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("section", SECTIONS)
def test_work_is_counted_as_in_the_exported_graph(section: str) -> None:
    model = built(section, mels=23)
    graph = trace(model, speech(2, 16000))
    counted = count_macs(model, torch.zeros(1, 20000))
    assert counted == pytest.approx(macs.count_macs(graph, 20000), rel=0.01)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_step_in_bfloat16_gives_every_weight_a_gradient(section: str) -> None:
    model = built(section).train()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = model(speech(4, 8000))
    assert embeddings.dtype == torch.float32
    (embeddings * torch.randn_like(embeddings)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name


@pytest.mark.parametrize("section", SECTIONS[1:6:2])
def test_is_captured_whole_by_the_compiler(section: str) -> None:
    model = stirred(built(section))
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    batch = speech(2, 8000)
    assert torch.allclose(compiled(batch), model(batch), atol=1e-5)
    compiled(batch).square()[:, :3].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
