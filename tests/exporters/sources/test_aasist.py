"""The rebuilt AASIST against the architecture written a second time over the plain tensors.

The second implementation loops over bands and over pairs of nodes, normalizes by hand, and shares
nothing with the first. With the published weights if `../shared/models` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from typer.testing import CliRunner

from exporters.__main__ import app
from exporters.sources.aasist import AASIST_L_SIZES, AASIST_SIZES, Aasist, Sizes
from exporters.voices import synthesize_voice
from service.audio.windows import cut
from service.contract import Contract, CountermeasureContract
from service.errors import ContractError

PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "models"
MODELS = [("AASIST", AASIST_SIZES), ("AASIST-L", AASIST_L_SIZES)]
SAMPLES = 64600

State = Mapping[str, Tensor]


def normalize(state: State, name: str, hidden: Tensor) -> Tensor:
    """Batch norm of the last axis, from its running statistics."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scaled = (hidden - mean) / (variance + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def selu(hidden: Tensor) -> Tensor:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * torch.where(hidden > 0, hidden, alpha * hidden.expm1())


def project(state: State, name: str, hidden: Tensor) -> Tensor:
    return hidden @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def filter_bands(waveform: Tensor) -> Tensor:
    """(samples,) -> (70, samples - 128)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 71) / 2595) - 1)
    taps = np.arange(-64, 65)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(129) / 128)
    bands = []
    for low, high in pairwise(edges):
        with np.errstate(invalid="ignore"):
            ideal = np.sin(2 * np.pi * high * taps / 16000) - np.sin(2 * np.pi * low * taps / 16000)
            ideal = ideal / (np.pi * taps)
        ideal[64] = 2 * (high - low) / 16000
        kernel = torch.from_numpy(ideal * window).double().flip(0)  # symmetric, so either way
        length = waveform.numel() + 2 * 64
        spectrum = torch.fft.rfft(waveform, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
        bands.append(torch.fft.irfft(spectrum, n=2 * length)[128 : waveform.numel()])
    return torch.stack(bands)


def convolve(state: State, name: str, hidden: Tensor, above: int) -> Tensor:
    """(channels, bands, frames), padded by `above` bands and by one frame on each side."""
    padded = functional.pad(hidden, (1, 1, above, above))
    out = functional.conv2d(padded[None], state[f"{name}.weight"], state[f"{name}.bias"])
    return out[0]


def run_block(state: State, name: str, hidden: Tensor) -> Tensor:
    inner = convolve(state, f"{name}.conv1", hidden, 1)  # of the input: bn1 is not used
    inner = selu(normalize(state, f"{name}.bn2", inner.permute(1, 2, 0)).permute(2, 0, 1))
    inner = convolve(state, f"{name}.conv2", inner, 0)
    if f"{name}.conv_downsample.weight" in state:
        hidden = convolve(state, f"{name}.conv_downsample", hidden, 0)
    whole = inner + hidden
    frames = whole.shape[2] // 3
    return whole[:, :, : frames * 3].unflatten(2, (frames, 3)).max(dim=3).values


def attend(state: State, name: str, nodes: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Row by row; `weights` (nodes, nodes, width) holds the vector of each pair."""
    rows = []
    for number, node in enumerate(nodes):
        scores = (project(state, name, node * nodes).tanh() * weights[number]).sum(dim=1)
        odds = ((scores - scores.max()) / temperature).exp()
        rows.append((odds / odds.sum()) @ nodes)
    return torch.stack(rows)


def run_graph(state: State, name: str, nodes: Tensor) -> Tensor:
    weights = state[f"{name}.att_weight"][:, 0].expand(len(nodes), len(nodes), -1)
    heard = attend(state, f"{name}.att_proj", nodes, weights, 2.0)
    mixed = project(state, f"{name}.proj_with_att", heard)
    mixed = mixed + project(state, f"{name}.proj_without_att", nodes)
    return selu(normalize(state, f"{name}.bn", mixed))


def pool(state: State, name: str, nodes: Tensor, share: float) -> Tensor:
    scores = 1 / (1 + (-project(state, f"{name}.proj", nodes)[:, 0]).exp())
    order = sorted(range(len(nodes)), key=lambda node: -float(scores[node]))
    return torch.stack([nodes[i] * scores[i] for i in order[: max(1, int(len(nodes) * share))]])


def run_stack(
    state: State, name: str, frames: Tensor, bands: Tensor, stack: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    nodes = torch.cat(
        [
            project(state, f"{name}.proj_type1", frames),
            project(state, f"{name}.proj_type2", bands),
        ]
    )
    kinds = [1] * len(frames) + [2] * len(bands)
    vector = {(a, b): f"{name}.att_weight{min(a, b)}{max(a, b)}" for a in (1, 2) for b in (1, 2)}
    weights = torch.stack([torch.stack([state[vector[a, b]][:, 0] for b in kinds]) for a in kinds])
    heard = attend(state, f"{name}.att_proj", nodes, weights, 100.0)
    whole = project(state, f"{name}.proj_with_att", heard)
    whole = selu(
        normalize(state, f"{name}.bn", whole + project(state, f"{name}.proj_without_att", nodes))
    )
    scores = project(state, f"{name}.att_projM", nodes * stack).tanh()
    odds = ((scores @ state[f"{name}.att_weightM"])[:, 0] / 100.0).softmax(dim=0)
    gathered = project(state, f"{name}.proj_with_attM", odds @ nodes)
    stack = gathered + project(state, f"{name}.proj_without_attM", stack)
    return whole[: len(frames)], whole[len(frames) :], stack


def compute_logit(state: State, sizes: Sizes, waveform: Tensor) -> float:
    """The logit of one waveform (64600,), in double precision."""
    state = {name: tensor.double() for name, tensor in state.items()}
    hidden = functional.max_pool2d(filter_bands(waveform.double()).abs()[None], (3, 3))
    hidden = selu(normalize(state, "first_bn", hidden[..., None])[..., 0])
    for number in range(6):
        hidden = run_block(state, f"encoder.{number}.0", hidden)
    bands = hidden.abs().max(dim=2).values.T + state["pos_S"][0]
    frames = hidden.abs().max(dim=1).values.T
    bands = pool(state, "pool_S", run_graph(state, "GAT_layer_S", bands), sizes.kept_bands)
    frames = pool(state, "pool_T", run_graph(state, "GAT_layer_T", frames), sizes.kept_frames)
    found = []
    for branch in (1, 2):
        layer = f"HtrgGAT_layer_ST{branch}"
        one = run_stack(state, f"{layer}1", frames, bands, state[f"master{branch}"][0, 0])
        kept = (
            pool(state, f"pool_hT{branch}", one[0], sizes.kept_stacked),
            pool(state, f"pool_hS{branch}", one[1], sizes.kept_stacked),
            one[2],
        )
        two = run_stack(state, f"{layer}2", *kept)
        found.append([a + b for a, b in zip(kept, two, strict=True)])
    frames, bands, stack = (torch.maximum(a, b) for a, b in zip(*found, strict=True))
    ends = [nodes for kind in (frames, bands) for nodes in (kind.abs().max(0).values, kind.mean(0))]
    spoofed, bona_fide = project(state, "out_layer", torch.cat([*ends, stack]))
    return float(bona_fide - spoofed)


def make_waveforms() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Two windows: a voice, and a second of another, repeated as the service repeats it."""
    voice, other = (synthesize_voice(seed, rate=16000, samples=SAMPLES) for seed in (1, 2))
    [short] = cut(other[:16000], window_samples=SAMPLES, hop_samples=SAMPLES // 2)
    return np.stack([voice, short])


def make_random(sizes: Sizes) -> Aasist:
    """A network with statistics that are not the identity, as trained ones are not."""
    torch.manual_seed(0)
    network = Aasist(sizes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) + 0.5
    return network.eval()


@pytest.mark.parametrize(("title", "sizes"), MODELS)
def test_random_weights_give_the_logits_of_the_second_implementation(
    title: str, sizes: Sizes
) -> None:
    network = make_random(sizes)
    waveforms = make_waveforms()
    with torch.no_grad():
        logits = network(torch.from_numpy(waveforms))
        expected = [
            compute_logit(network.state_dict(), sizes, torch.from_numpy(row)) for row in waveforms
        ]
    assert logits.shape == (2,), title
    assert np.allclose(logits.numpy(), expected, atol=1e-4)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no ../shared/models beside the checkout")
@pytest.mark.parametrize(("title", "sizes"), MODELS)
def test_published_weights_are_adopted(title: str, sizes: Sizes, tmp_path: Path) -> None:
    checkpoint, output = PUBLISHED / f"{title}.pth", tmp_path / "cm.onnx"
    options = ("--architecture", title.lower(), "--licence", "MIT", "--output", str(output))
    result = CliRunner().invoke(app, ["adopt", str(checkpoint), *options])
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    waveforms = make_waveforms()
    [logits] = session.run(None, {"waveform": waveforms})
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    with torch.no_grad():
        expected = [compute_logit(state, sizes, torch.from_numpy(row)) for row in waveforms]
    assert np.allclose(logits, expected, atol=1e-4), (logits, expected)
    metadata = session.get_modelmeta().custom_metadata_map
    contract = CountermeasureContract.from_metadata(metadata)
    assert contract.model_id.startswith(f"{title.lower()}-")
    lengths = (contract.sample_rate, contract.window_samples, contract.hop_samples)
    assert lengths == (16000, 64600, 32300)
    assert contract.provenance["licence"] == "MIT"
    assert contract.provenance["parity"]["logit_difference"] <= 1e-4
    with pytest.raises(ContractError):
        Contract.from_metadata(metadata)


def adopt(checkpoint: Path, output: Path, *options: str) -> str:
    """Run `sayso-export adopt`, which must fail; what it says, on one line."""
    result = CliRunner().invoke(
        app, ["adopt", str(checkpoint), "--output", str(output), "--licence", "MIT", *options]
    )
    assert result.exit_code != 0
    assert not output.exists()
    return " ".join(result.output.split())


def test_weights_of_the_other_size_are_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights.pth"
    torch.save(make_random(AASIST_L_SIZES).state_dict(), checkpoint)
    told = adopt(checkpoint, tmp_path / "cm.onnx", "--architecture", "aasist")
    assert "AASIST" in told


def test_another_window_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights.pth"
    torch.save(make_random(AASIST_L_SIZES).state_dict(), checkpoint)
    options = ("--architecture", "aasist-l", "--window-s", "2")
    told = adopt(checkpoint, tmp_path / "cm.onnx", *options)
    assert "hears windows of 4.0375 s and no others" in told
