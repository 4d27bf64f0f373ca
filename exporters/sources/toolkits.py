"""WeSpeaker and 3D-Speaker: which encoder, sized how, behind which filterbank."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from exporters.sources.pipeline import Architecture
from exporters.sources.weights import Shapes
from training import frontends
from training.encoders.campplus import CamPlusPlus
from training.encoders.ecapa import EcapaTdnn
from training.encoders.eres2net import ERes2NetV2, Sizes
from training.encoders.redimnet import FAMILY, ReDimNet
from training.encoders.resnet import DEPTHS_34, Block, Bottleneck, WeSpeakerResNet

_WESPEAKER = "https://github.com/wenet-e2e/wespeaker"
_THREE_D_SPEAKER = "https://github.com/modelscope/3D-Speaker"
_DEPTHS: Mapping[str, tuple[type[Block], tuple[int, ...]]] = {
    "resnet34": (Block, DEPTHS_34),
    "resnet221": (Bottleneck, (6, 16, 48, 3)),
    "resnet293": (Bottleneck, (10, 20, 64, 3)),
}

Sized = tuple[nn.Module, int]


def _resnet(name: str) -> Callable[[Shapes], Sized]:
    block, depths = _DEPTHS[name]

    def build(shapes: Shapes) -> Sized:
        width = shapes.size("conv1.weight")
        mels = shapes.size("seg_1.weight", 1) // (2 * 8 * width * block.expansion) * 8
        encoder = WeSpeakerResNet(
            block=block,
            depths=depths,
            width=width,
            mels=mels,
            embedding_dim=shapes.size("seg_1.weight"),
            two="seg_2.weight" in shapes,
        )
        return encoder, mels

    return build


def _ecapa(shapes: Shapes) -> Sized:
    width, mels = shapes.size("layer1.conv.weight"), shapes.size("layer1.conv.weight", 1)
    context = shapes.size("pool.linear1.weight", 1) == 9 * width
    encoder = EcapaTdnn(
        width=width,
        mels=mels,
        embedding_dim=shapes.size("linear.weight"),
        layout="wespeaker-glob" if context else "wespeaker",
    )
    return encoder, mels


def _campplus(shapes: Shapes) -> Sized:
    mels = shapes.size("xvector.tdnn.linear.weight", 1) // 32 * 8
    dimension = shapes.size("xvector.dense.linear.weight")
    return CamPlusPlus(mels=mels, embedding_dim=dimension, layout="3d-speaker"), mels


def _eres2netv2(shapes: Shapes) -> Sized:
    planes, width = shapes.size("conv1.weight"), shapes.size("layer1.0.convs.0.weight")
    sizes = Sizes(
        planes=planes,
        width=width,
        groups=shapes.size("layer1.0.conv1.weight") // width,
        expansion=shapes.size("layer1.0.conv3.weight") // planes,
    )
    mels = shapes.size("seg_1.weight", 1) // (2 * 8 * planes * sizes.expansion) * 8
    encoder = ERes2NetV2(
        sizes,
        mels=mels,
        embedding_dim=shapes.size("seg_1.weight"),
        two="seg_2.weight" in shapes,
    )
    return encoder, mels


def _redimnet(name: str) -> Callable[[Shapes], Sized]:
    sizes = FAMILY[name]

    def build(shapes: Shapes) -> Sized:
        dimension, two = shapes.size("seg_1.weight"), "seg_2.weight" in shapes
        return ReDimNet(sizes, embedding_dim=dimension, two=two), sizes.mels

    return build


def _wespeaker(title: str, encoder: Callable[[Shapes], Sized]) -> Architecture:
    return Architecture(f"WeSpeaker {title}", encoder, frontends.wespeaker, _WESPEAKER)


def _three_d_speaker(title: str, encoder: Callable[[Shapes], Sized]) -> Architecture:
    return Architecture(f"3D-Speaker {title}", encoder, frontends.three_d_speaker, _THREE_D_SPEAKER)


TOOLKITS: Mapping[str, Architecture] = {
    "wespeaker-resnet34": _wespeaker("ResNet34", _resnet("resnet34")),
    "wespeaker-resnet221": _wespeaker("ResNet221", _resnet("resnet221")),
    "wespeaker-resnet293": _wespeaker("ResNet293", _resnet("resnet293")),
    "wespeaker-ecapa": _wespeaker("ECAPA-TDNN", _ecapa),
    "wespeaker-campplus": _wespeaker("CAM++", _campplus),
    **{
        f"wespeaker-redimnet-{name}": _wespeaker(f"ReDimNet {name.upper()}", _redimnet(name))
        for name in FAMILY
    },
    "3d-speaker-campplus": _three_d_speaker("CAM++", _campplus),
    "3d-speaker-eres2netv2": _three_d_speaker("ERes2NetV2", _eres2netv2),
}
