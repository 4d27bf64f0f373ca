"""WeSpeaker and 3D-Speaker checkpoints, against the same architectures in peers' own packages."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance import kaldi

from exporters import parity
from exporters.errors import CheckpointError, ExportError
from exporters.publish import Windows, gate
from exporters.sources import adopt
from exporters.voices import load_voices
from training import config, encoders
from training.encoders.campplus import CamPlusPlus
from training.encoders.ecapa import EcapaTdnn
from training.encoders.eres2net import ERes2NetV2, Sizes
from training.encoders.resnet import Block, Bottleneck, WeSpeakerResNet
from training.errors import CheckpointError as TrainingCheckpointError
from training.runs import starting_weights

PeerModule = Callable[[str], Any]
Lively = Callable[[nn.Module], nn.Module]


@pytest.fixture(scope="module")
def features() -> Tensor:
    """(2, frames, 80), more frames than one segment of CAM++ and not a multiple of 8."""
    return torch.randn(2, 213, 80, generator=torch.Generator().manual_seed(1))


def assert_same(ours: nn.Module, theirs: nn.Module, features: Tensor) -> None:
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        expected = theirs(features)
        actual = ours.eval()(features.transpose(1, 2))
    if isinstance(expected, tuple):
        expected = expected[-1]
    assert actual.std() > 1e-3
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize(
    ("block", "name", "depths"),
    [(Block, "BasicBlock", (3, 4, 6, 3)), (Bottleneck, "Bottleneck", (1, 2, 2, 1))],
    ids=["basic", "bottleneck"],
)
def test_resnet(
    peer_module: PeerModule,
    lively: Lively,
    features: Tensor,
    block: type[Block],
    name: str,
    depths: tuple[int, ...],
    two: bool,
) -> None:
    peer = peer_module("pyannote.audio.models.embedding.wespeaker.resnet")
    theirs = peer.ResNet(
        getattr(peer, name), depths, m_channels=8, feat_dim=80, embed_dim=32, two_emb_layer=two
    )
    theirs.forward = lambda x: _wespeaker_forward(theirs, x)
    ours = WeSpeakerResNet(block=block, depths=depths, width=8, mels=80, embedding_dim=32, two=two)
    assert_same(ours, lively(theirs), features)


def _wespeaker_forward(resnet: Any, features: Tensor) -> Tensor:
    embedding: Tensor = type(resnet).forward(resnet, features)[-1]
    return embedding


def test_campplus(peer_module: PeerModule, lively: Lively, features: Tensor) -> None:
    components = peer_module("funasr.models.campplus.components")
    theirs = _FunAsrCampplus(components)
    assert_same(
        CamPlusPlus(mels=80, embedding_dim=64, layout="3d-speaker"), lively(theirs), features
    )


class _FunAsrCampplus(nn.Module):
    """FunASR's parts in the order that its `CAMPPlus` strings them."""

    def __init__(self, parts: Any) -> None:
        super().__init__()
        self.head = parts.FCM(feat_dim=80)
        self.xvector = nn.Sequential()
        shape = {"config_str": "batchnorm-relu"}
        self.xvector.add_module("tdnn", parts.TDNNLayer(320, 128, 5, stride=2, padding=-1, **shape))
        channels = 128
        for index, (layers, dilation) in enumerate(((12, 1), (24, 2), (16, 2)), start=1):
            block = parts.CAMDenseTDNNBlock(
                num_layers=layers,
                in_channels=channels,
                out_channels=32,
                bn_channels=128,
                kernel_size=3,
                dilation=dilation,
                **shape,
            )
            self.xvector.add_module(f"block{index}", block)
            channels += layers * 32
            transit = parts.TransitLayer(channels, channels // 2, bias=False, **shape)
            self.xvector.add_module(f"transit{index}", transit)
            channels //= 2
        self.xvector.add_module("out_nonlinear", parts.get_nonlinear("batchnorm-relu", channels))
        self.xvector.add_module("stats", parts.StatsPool())
        dense = parts.DenseLayer(channels * 2, 64, config_str="batchnorm_")
        self.xvector.add_module("dense", dense)

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.xvector(self.head(features.permute(0, 2, 1)))
        return embedding


@pytest.mark.parametrize(
    ("width", "groups", "expansion"), [(26, 2, 2), (24, 4, 4)], ids=["standard", "w24s4ep4"]
)
def test_eres2netv2(
    peer_module: PeerModule,
    lively: Lively,
    features: Tensor,
    width: int,
    groups: int,
    expansion: int,
) -> None:
    peer = peer_module("funasr.models.eres2net.eres2netv2")
    theirs = peer.ERes2NetV2(
        m_channels=32,
        feat_dim=80,
        embedding_size=32,
        baseWidth=width,
        scale=groups,
        expansion=expansion,
    )
    sizes = Sizes(planes=32, width=32 * width // 64, groups=groups, expansion=expansion)
    ours = ERes2NetV2(sizes, mels=80, embedding_dim=32, two=False)
    assert_same(ours, lively(theirs), features)


@pytest.mark.parametrize("context", [False, True])
def test_wespeaker_ecapa(lively: Lively, features: Tensor, context: bool) -> None:
    """No package has WeSpeaker's, so it is told again step by step from its weights."""
    layout = "wespeaker-glob" if context else "wespeaker"
    ours = lively(EcapaTdnn(width=32, mels=80, embedding_dim=16, layout=layout))
    with torch.inference_mode():
        expected = _told_again(ours.state_dict(), features.transpose(1, 2), context)
        torch.testing.assert_close(ours(features.transpose(1, 2)), expected, rtol=1e-3, atol=1e-4)


def _told_again(state: Mapping[str, Tensor], x: Tensor, context: bool) -> Tensor:
    def conv(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = dilation * (weight.shape[2] // 2)
        bias = state[f"{name}.bias"]
        return functional.conv1d(x, weight, bias, padding=padding, dilation=dilation)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return functional.batch_norm(x, mean, variance, weight, bias)

    def dense(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def unit(name: str, x: Tensor) -> Tensor:
        return norm(f"{name}.bn", conv(f"{name}.conv", x).relu())

    def block(name: str, x: Tensor, dilation: int) -> Tensor:
        name = f"{name}.se_res2block"
        groups = torch.split(unit(f"{name}.0", x), 4, dim=1)
        last, kept = None, []
        for i in range(7):
            given = groups[i] if last is None else groups[i] + last
            last = norm(f"{name}.1.bns.{i}", conv(f"{name}.1.convs.{i}", given, dilation).relu())
            kept.append(last)
        y = unit(f"{name}.2", torch.cat([*kept, groups[7]], dim=1))
        gain = dense(f"{name}.3.linear2", dense(f"{name}.3.linear1", y.mean(dim=2)).relu())
        return x + y * gain.sigmoid()[:, :, None]

    one = block("layer2", unit("layer1", x), 2)
    two = block("layer3", one, 3)
    three = block("layer4", two, 4)
    y = conv("conv", torch.cat([one, two, three], dim=1)).relu()
    seen = y
    if context:
        mean = y.mean(dim=2, keepdim=True) * torch.ones_like(y)
        deviation = (y.var(dim=2, keepdim=True) + 1e-10).sqrt() * torch.ones_like(y)
        seen = torch.cat([y, mean, deviation], dim=1)
    weight = conv("pool.linear2", conv("pool.linear1", seen).tanh()).softmax(dim=2)
    mean = (weight * y).sum(dim=2)
    deviation = ((weight * y**2).sum(dim=2) - mean**2).clamp(min=1e-10).sqrt()
    return dense("linear", norm("bn", torch.cat([mean, deviation], dim=1)))


@pytest.fixture
def small(lively: Lively) -> Callable[[str], nn.Module]:
    return lambda name: lively(_small(name))


def _small(name: str) -> nn.Module:
    models: Mapping[str, Callable[[], nn.Module]] = {
        "wespeaker-resnet34": lambda: WeSpeakerResNet(width=8, mels=80, embedding_dim=32),
        "wespeaker-ecapa": lambda: EcapaTdnn(
            width=32, mels=80, embedding_dim=16, layout="wespeaker-glob"
        ),
        "3d-speaker-campplus": lambda: CamPlusPlus(mels=80, embedding_dim=64, layout="3d-speaker"),
        "3d-speaker-eres2netv2": lambda: ERes2NetV2(
            Sizes(planes=16, width=6, groups=2, expansion=2), mels=80, embedding_dim=32, two=False
        ),
    }
    torch.manual_seed(2)
    return models[name]()


@pytest.mark.parametrize(
    ("name", "window", "scale"),
    [
        ("wespeaker-resnet34", "hamming", 32768.0),
        ("wespeaker-ecapa", "hamming", 32768.0),
        ("3d-speaker-campplus", "povey", 1.0),
        ("3d-speaker-eres2netv2", "povey", 1.0),
    ],
)
def test_a_checkpoint_is_adopted_with_its_filterbank(
    small: Callable[[str], nn.Module], tmp_path: Path, name: str, window: str, scale: float
) -> None:
    encoder = small(name)
    path = tmp_path / "avg_model.pt"
    torch.save({**encoder.state_dict(), "projection.weight": torch.ones(3, 3)}, path)
    waveforms, _ = load_voices(None, rate=16000, samples=20007, count=2)
    request = adopt.Request(
        str(path), architecture=name, licence="Apache-2.0", windows=Windows(0.8, 0.4)
    )
    with adopt.make_candidate(request) as candidate:
        ours = parity.graph_embed(candidate.graph)(waveforms)
        assert gate(candidate).cosine >= parity.FLOOR
    for row, embedding in zip(waveforms, ours, strict=True):
        features = kaldi.fbank(
            torch.from_numpy(row[None]) * scale, num_mel_bins=80, window_type=window, dither=0.0
        )
        with torch.inference_mode():
            theirs = functional.normalize(encoder((features - features.mean(dim=0)).T[None]))
        assert parity.least_cosine(embedding[None], theirs.numpy()) >= parity.FLOOR


@pytest.mark.parametrize(
    ("architecture", "encoder", "front_end"),
    [
        (
            "wespeaker-resnet34",
            'name = "resnet34", layout = "wespeaker", width = 8, embedding_dim = 32',
            "wespeaker",
        ),
        (
            "wespeaker-ecapa",
            'name = "ecapa", layout = "wespeaker-glob", width = 32, embedding_dim = 16',
            "wespeaker",
        ),
        (
            "3d-speaker-campplus",
            'name = "cam++", layout = "3d-speaker", embedding_dim = 64',
            "3d-speaker",
        ),
    ],
)
def test_a_run_starts_from_the_checkpoint_that_is_adopted(
    small: Callable[[str], nn.Module],
    tmp_path: Path,
    architecture: str,
    encoder: str,
    front_end: str,
) -> None:
    state = small(architecture).state_dict()
    path = tmp_path / "avg_model.pt"
    torch.save({"model": {**state, "projection.weight": torch.ones(3, 3)}}, path)
    recipe = config.parse(
        f"""
        losses = [{{ name = "info_nce" }}]
        encoder = {{ {encoder} }}
        front_end = {{ name = "{front_end}" }}
        schedule = {{ steps = 1 }}
        """
    )
    begun = encoders.build(recipe)
    assert starting_weights.read(path) == path
    starting_weights.load_into(begun, path)
    waveforms, _ = load_voices(None, rate=16000, samples=20007, count=2)
    request = adopt.Request(str(path), architecture=architecture, licence="Apache-2.0")
    with adopt.make_candidate(request) as candidate:
        adopted = parity.graph_embed(candidate.graph)(waveforms)
    with torch.inference_mode():
        ours = begun.eval()(torch.from_numpy(waveforms)).numpy()
    assert parity.least_cosine(ours, adopted) >= parity.FLOOR
    other = encoders.build(config.load("small"))
    with pytest.raises(TrainingCheckpointError, match="does not hold the weights of EcapaTdnn"):
        starting_weights.load_into(other, path)


def _refused(path: Path, architecture: str | None, match: str) -> None:
    request = adopt.Request(str(path), architecture=architecture, licence="Apache-2.0")
    with pytest.raises(ExportError, match=match), adopt.make_candidate(request):
        pass


def test_another_architecture_is_refused(small: Callable[[str], nn.Module], tmp_path: Path) -> None:
    path = tmp_path / "avg_model.pt"
    torch.save(small("wespeaker-resnet34").state_dict(), path)
    _refused(path, "wespeaker-ecapa", r"WeSpeaker ECAPA-TDNN: it lacks layer1\.conv\.weight")
    _refused(path, "wespeaker-resnet221", r"ResNet221: it lacks")
    _refused(path, None, "--architecture, one of: 3d-speaker-campplus")
    _refused(path, "vgg", "vgg is not a known architecture")


def test_a_wrapped_checkpoint_is_unwrapped(
    small: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    state = small("wespeaker-ecapa").state_dict()
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    request = adopt.Request(str(path), architecture="wespeaker-ecapa", licence="Apache-2.0")
    with adopt.make_candidate(request) as candidate:
        assert candidate.provenance["checkpoint"].startswith("sha256:")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"layer1.conv.weight": _Dangerous(tmp_path / "run")}, path)
    _refused(path, "wespeaker-ecapa", "not a checkpoint of plain tensors")
    assert not (tmp_path / "run").exists()


class _Dangerous:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_digest_that_differs_is_refused(
    small: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    path = tmp_path / "avg_model.pt"
    torch.save(small("wespeaker-ecapa").state_dict(), path)
    request = adopt.Request(
        str(path), architecture="wespeaker-ecapa", licence="MIT", sha256="0" * 64
    )
    with pytest.raises(ExportError, match="has sha256:"), adopt.make_candidate(request):
        pass
    assert issubclass(CheckpointError, ExportError)
