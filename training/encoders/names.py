"""Names of weights that were laid out otherwise, mapped to those of `training.encoders`.

Until version 3 of the checkpoint this project had names of its own, which `models/sayso.onnx` and
`models/sayso-small.onnx` still hold; SpeechBrain has others for its ECAPA-TDNN. A rule is a pattern
of the old name, the new name, and how the tensor's axes change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

Change = Callable[[Tensor, int], Tensor]
"""Of a tensor, and the number of groups of the encoder's Res2 blocks."""

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def keep(tensor: Tensor, groups: int) -> Tensor:
    return tensor


def squeeze(tensor: Tensor, groups: int) -> Tensor:
    """A pointwise convolution's weight (out, in, 1) to a linear layer's, (out, in)."""
    return tensor.squeeze(2) if tensor.ndim == 3 else tensor


def unsqueeze(tensor: Tensor, groups: int) -> Tensor:
    return tensor.unsqueeze(2) if tensor.ndim == 2 else tensor


def roll_outputs(tensor: Tensor, groups: int) -> Tensor:
    """The channel group that Res2 leaves as it is, moved from the first place to the last."""
    return tensor.roll(-tensor.shape[0] // groups, dims=0) if tensor.ndim else tensor


def roll_inputs(tensor: Tensor, groups: int) -> Tensor:
    """The same of the convolution that follows, (out, in, 1); its bias stays."""
    return tensor.roll(-tensor.shape[1] // groups, dims=1) if tensor.ndim == 3 else tensor


@dataclass(frozen=True, slots=True)
class Rule:
    """Names that begin with `old`, a regular expression; `new` may use its groups, and numbers
    written `{2+1}`, which is group 2 plus 1."""

    old: str
    new: str
    change: Change = keep

    def rename(self, name: str) -> str | None:
        match = re.fullmatch(rf"{self.old}\.(\w+)", name)
        if match is None:
            return None
        numbers = re.sub(
            r"\{(\d)\+(\d)\}", lambda m: str(int(match[int(m[1])]) + int(m[2])), self.new
        )
        return f"{match.expand(numbers)}.{match.groups()[-1]}"


@dataclass(frozen=True, slots=True)
class OtherNames:
    """The layout that has a name like `marker`; `groups` counts its Res2 blocks' convolutions."""

    marker: str
    rules: Sequence[Rule]
    groups: str = ""
    prefixes: Sequence[str] = field(default=("",))

    def is_of(self, names: Iterable[str]) -> bool:
        return any(re.match(self.marker, name) for name in names)

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` by the new names; what no rule knows keeps its name."""
        groups = 1 + sum(re.fullmatch(self.groups, name) is not None for name in state)
        translated = {}
        for name, tensor in state.items():
            new, change = self._rename(name)
            translated[new] = change(tensor, groups)
        return translated

    def _rename(self, name: str) -> tuple[str, Change]:
        for rule in self.rules:
            new = rule.rename(name)
            if new is not None:
                return new, rule.change
        return name, keep


_ECAPA_BLOCK = r"layer{1+2}.se_res2block"
_HEAD = (
    Rule(r"pool\.attention\.0\.0", "pool.linear1"),
    Rule(r"pool\.attention\.0\.2", "pool.norm"),
    Rule(r"pool\.attention\.2", "pool.linear2"),
    Rule(r"head\.0", "bn"),
    Rule(r"head\.1", "linear"),
    Rule(r"head\.2", "output_norm"),
)
_ECAPA = OtherNames(
    r"aggregate\.0\.weight",
    (
        Rule(r"stem\.0", "layer1.conv"),
        Rule(r"stem\.2", "layer1.bn"),
        Rule(r"blocks\.(\d)\.0\.0", f"{_ECAPA_BLOCK}.0.conv", roll_outputs),
        Rule(r"blocks\.(\d)\.0\.2", f"{_ECAPA_BLOCK}.0.bn", roll_outputs),
        Rule(r"blocks\.(\d)\.1\.blocks\.(\d+)\.0", rf"{_ECAPA_BLOCK}.1.convs.\2"),
        Rule(r"blocks\.(\d)\.1\.blocks\.(\d+)\.2", rf"{_ECAPA_BLOCK}.1.bns.\2"),
        Rule(r"blocks\.(\d)\.2\.0", f"{_ECAPA_BLOCK}.2.conv", roll_inputs),
        Rule(r"blocks\.(\d)\.2\.2", f"{_ECAPA_BLOCK}.2.bn"),
        Rule(r"blocks\.(\d)\.3\.gains\.0", f"{_ECAPA_BLOCK}.3.linear1", squeeze),
        Rule(r"blocks\.(\d)\.3\.gains\.2", f"{_ECAPA_BLOCK}.3.linear2", squeeze),
        Rule(r"aggregate\.0", "conv"),
        *_HEAD,
    ),
    groups=r"blocks\.0\.1\.blocks\.\d+\.0\.weight",
)


def _residual(old: str, new: str) -> tuple[Rule, ...]:
    return (
        Rule(rf"{old}\.change\.0\.0", f"{new}.conv1"),
        Rule(rf"{old}\.change\.0\.1", f"{new}.bn1"),
        Rule(rf"{old}\.change\.2\.0", f"{new}.conv2"),
        Rule(rf"{old}\.change\.2\.1", f"{new}.bn2"),
        Rule(rf"{old}\.kept\.0", f"{new}.shortcut.0"),
        Rule(rf"{old}\.kept\.1", f"{new}.shortcut.1"),
    )


_RESNET = OtherNames(
    r"stages\.",
    (
        Rule(r"stem\.0\.0", "conv1"),
        Rule(r"stem\.0\.1", "bn1"),
        *_residual(r"stages\.(\d)\.(\d+)", r"layer{1+1}.\2"),
        *_HEAD,
    ),
)
_DENSE = r"xvector.block{1+1}.tdnnd{2+1}"
_CAMPPLUS = OtherNames(
    r"project\.0\.weight",
    (
        Rule(r"head\.0\.0", "head.conv1"),
        Rule(r"head\.0\.1", "head.bn1"),
        *_residual(r"head\.2\.(\d)", r"head.layer1.\1"),
        *_residual(r"head\.3\.(\d)", r"head.layer2.\1"),
        Rule(r"head\.4\.0", "head.conv2"),
        Rule(r"head\.4\.1", "head.bn2"),
        Rule(r"stem\.0", "xvector.tdnn.linear"),
        Rule(r"stem\.1", "xvector.tdnn.nonlinear.batchnorm"),
        Rule(r"blocks\.(\d)\.layers\.(\d+)\.0", f"{_DENSE}.nonlinear1.batchnorm"),
        Rule(r"blocks\.(\d)\.layers\.(\d+)\.2", f"{_DENSE}.linear1"),
        Rule(r"blocks\.(\d)\.layers\.(\d+)\.3", f"{_DENSE}.nonlinear2.batchnorm"),
        Rule(r"blocks\.(\d)\.layers\.(\d+)\.5\.local", f"{_DENSE}.cam_layer.linear_local"),
        Rule(r"blocks\.(\d)\.layers\.(\d+)\.5\.mask\.0", f"{_DENSE}.cam_layer.linear1"),
        Rule(r"blocks\.(\d)\.layers\.(\d+)\.5\.mask\.2", f"{_DENSE}.cam_layer.linear2"),
        Rule(r"blocks\.(\d)\.halve\.0", "xvector.transit{1+1}.nonlinear.batchnorm"),
        Rule(r"blocks\.(\d)\.halve\.2", "xvector.transit{1+1}.linear"),
        Rule(r"pool\.0", "xvector.out_nonlinear.batchnorm"),
        Rule(r"project\.0", "xvector.dense.linear", unsqueeze),
        Rule(r"project\.1", "xvector.dense.nonlinear.batchnorm"),
    ),
)
_SPEECHBRAIN_BLOCK = r"layer{1+1}.se_res2block"
_SPEECHBRAIN = OtherNames(
    r"blocks\.0\.conv\.conv\.weight",
    (
        Rule(r"blocks\.0\.conv\.conv", "layer1.conv"),
        Rule(r"blocks\.0\.norm\.norm", "layer1.bn"),
        Rule(r"blocks\.(\d)\.tdnn1\.conv\.conv", f"{_SPEECHBRAIN_BLOCK}.0.conv", roll_outputs),
        Rule(r"blocks\.(\d)\.tdnn1\.norm\.norm", f"{_SPEECHBRAIN_BLOCK}.0.bn", roll_outputs),
        Rule(
            r"blocks\.(\d)\.res2net_block\.blocks\.(\d+)\.conv\.conv",
            rf"{_SPEECHBRAIN_BLOCK}.1.convs.\2",
        ),
        Rule(
            r"blocks\.(\d)\.res2net_block\.blocks\.(\d+)\.norm\.norm",
            rf"{_SPEECHBRAIN_BLOCK}.1.bns.\2",
        ),
        Rule(r"blocks\.(\d)\.tdnn2\.conv\.conv", f"{_SPEECHBRAIN_BLOCK}.2.conv", roll_inputs),
        Rule(r"blocks\.(\d)\.tdnn2\.norm\.norm", f"{_SPEECHBRAIN_BLOCK}.2.bn"),
        Rule(r"blocks\.(\d)\.se_block\.conv1\.conv", f"{_SPEECHBRAIN_BLOCK}.3.linear1", squeeze),
        Rule(r"blocks\.(\d)\.se_block\.conv2\.conv", f"{_SPEECHBRAIN_BLOCK}.3.linear2", squeeze),
        Rule(r"mfa\.conv\.conv", "conv"),
        Rule(r"mfa\.norm\.norm", "conv_norm"),
        Rule(r"asp\.tdnn\.conv\.conv", "pool.linear1"),
        Rule(r"asp\.tdnn\.norm\.norm", "pool.norm"),
        Rule(r"asp\.conv\.conv", "pool.linear2"),
        Rule(r"asp_bn\.norm", "bn"),
        Rule(r"fc\.conv", "linear", squeeze),
    ),
    groups=r"blocks\.1\.res2net_block\.blocks\.\d+\.conv\.conv\.weight",
)
_LAYOUTS = (_ECAPA, _RESNET, _CAMPPLUS, _SPEECHBRAIN)


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's weights by the names of `training.encoders`, whichever they came by."""
    for layout in _LAYOUTS:
        if layout.is_of(state):
            return layout.translate(state)
    return dict(state)


def translate_below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same for the encoder whose names begin with `prefix`; other names stay as they are."""
    own = {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}
    others = {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
    return {**{prefix + name: t for name, t in translate(own).items()}, **others}


def translate_optimizer(
    moments: Mapping[int, Mapping[str, Tensor]],
    old: Iterable[str],
    prefix: str,
    new: Iterable[str],
) -> dict[int, dict[str, Tensor]]:
    """AdamW's moments by place, for an encoder with the weights `new` instead of `old`.

    Both in the order of the state; the encoder's parameters come first in the optimizer, and what
    follows them keeps its place.
    """
    places = [name for name in old if not name.endswith(STATISTICS)]
    translated = {place: dict(parts) for place, parts in moments.items() if place >= len(places)}
    for part in ("step", "exp_avg", "exp_avg_sq"):
        named = {
            name: moments[place][part] for place, name in enumerate(places) if place in moments
        }
        renamed = translate_below(named, prefix)
        for place, name in enumerate(name for name in new if not name.endswith(STATISTICS)):
            if name in renamed:
                translated.setdefault(place, {})[part] = renamed[name]
    return dict(sorted(translated.items()))
