"""ReDimNet; no package has WeSpeaker's, so it is told again step by step from its weights."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.publish import Windows, gate
from exporters.sources import adopt
from training.encoders.redimnet import FAMILY, ReDimNet, Sizes

Lively = Callable[[nn.Module], nn.Module]
PARAMETERS_M = {"b0": 1.0, "b1": 1.9, "b2": 4.9, "b3": 3.2, "b4": 6.4, "b5": 7.65, "b6": 15.0}
"""In millions, as WeSpeaker counts its own, which are not quite those of the paper."""


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_the_family_is_as_large_as_published(name: str) -> None:
    with torch.device("meta"):
        model = ReDimNet(FAMILY[name], embedding_dim=192, two=False)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS_M[name], abs=0.05)


@pytest.mark.parametrize("name", ["b0", "b1", "b3"])
def test_the_forward_pass_told_again(lively: Lively, name: str) -> None:
    torch.manual_seed(0)
    model = lively(ReDimNet(FAMILY[name], embedding_dim=16, two=False))
    with torch.no_grad():
        for weights in model.get_submodule("backbone").get_submodule("inputs_weights").parameters():
            weights.normal_()
    features = torch.randn(2, 61, FAMILY[name].mels)
    with torch.inference_mode():
        expected = _Told(model.state_dict(), FAMILY[name])(features)
        torch.testing.assert_close(model(features.transpose(1, 2)), expected, rtol=1e-3, atol=1e-4)


class _Told:
    """Every step by the names of the weights, with einsum and PyTorch's own attention."""

    def __init__(self, state: Mapping[str, Tensor], sizes: Sizes) -> None:
        self.state, self.sizes = state, sizes

    def __call__(self, features: Tensor) -> Tensor:
        x = self.conv("backbone.stem.0", features.permute(0, 2, 1)[:, None])
        outputs = [self.flat(self.norm_channels("backbone.stem.1", x))]
        bands = self.sizes.mels
        for index, stage in enumerate(self.sizes.stages):
            flat = self.mixed(index, outputs)
            x = torch.stack(flat.chunk(bands, dim=1), dim=2)  # (batch, channels, bands, frames)
            name = f"backbone.stage{index}"
            x = functional.conv2d(x, *self.pair(f"{name}.0"), stride=(stage.stride, 1))
            bands //= stage.stride
            for block in range(stage.blocks):
                x = self.block(f"{name}.{block + 1}.conv_block", x)
            at = stage.blocks + 1
            if stage.expansion > 1:
                y = self.conv(f"{name}.{at}.0", x)
                y = functional.gelu(self.batch_norm(f"{name}.{at}.1", y, eps=1e-6))
                x, at = self.conv(f"{name}.{at}.3", y), at + 1
            flat = self.flat(x)
            if stage.reduction is not None:
                flat = self.time(f"{name}.{at + 1}", flat)
            outputs.append(flat)
        return self.pooled(self.mixed(len(self.sizes.stages), outputs))

    def pair(self, name: str) -> tuple[Tensor, Tensor | None]:
        return self.state[f"{name}.weight"], self.state.get(f"{name}.bias")

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.pair(name)
        run = functional.conv2d if x.ndim == 4 else functional.conv1d
        groups = x.shape[1] // weight.shape[1]
        same: Tensor = run(x, weight, bias, padding="same", groups=groups)
        return same

    def batch_norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        mean, variance = (self.state[f"{name}.running_{part}"] for part in ("mean", "var"))
        return functional.batch_norm(x, mean, variance, *self.pair(name), eps=eps)

    def norm_channels(self, name: str, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        return functional.layer_norm(last, last.shape[-1:], *self.pair(name), 1e-6).movedim(-1, 1)

    def dense(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, *self.pair(name))

    @staticmethod
    def flat(x: Tensor) -> Tensor:
        return torch.cat([x[:, :, band] for band in range(x.shape[2])], dim=1)

    def mixed(self, index: int, outputs: list[Tensor]) -> Tensor:
        weights = self.state[f"backbone.inputs_weights.{index}"].softmax(dim=1)[0, :, :, 0]
        weights = weights.expand(len(outputs), outputs[0].shape[1])
        return torch.einsum("nc,nbct->bct", weights, torch.stack(outputs))

    def block(self, name: str, x: Tensor) -> Tensor:
        if self.sizes.kind == "convnext":
            return self.convnext(name, x)
        y = self.batch_norm(
            f"{name}.bn1", self.conv(f"{name}.conv1pw", self.conv(f"{name}.conv1", x)).relu()
        )
        y = self.batch_norm(
            f"{name}.bn2", self.conv(f"{name}.conv2pw", self.conv(f"{name}.conv2", y))
        )
        if self.sizes.kind == "basic-excited":
            gain = self.dense(f"{name}.se.squeeze", y.mean(dim=3).mean(dim=1)).relu()
            gain = self.dense(f"{name}.se.exitation", gain).sigmoid()
            y = torch.einsum("bcft,bf->bcft", y, gain)
        return (y + x).relu()

    def convnext(self, name: str, x: Tensor) -> Tensor:
        y = self.batch_norm(f"{name}.norm", self.conv(f"{name}.dwconvs.0", x))
        return x + self.conv(f"{name}.pwconv1", functional.gelu(y))

    def time(self, name: str, x: Tensor) -> Tensor:
        y = self.norm_channels(f"{name}.red_dim_conv.1", self.conv(f"{name}.red_dim_conv.0", x))
        for index in range(4):
            y = self.convnext(f"{name}.tcm.{index}", y)
        name, inner = f"{name}.tcm.4", name
        steps = y.permute(2, 0, 1)  # (frames, batch, width)
        parts = [f"{name}.attention.{part}_proj" for part in ("q", "k", "v")]
        attended, _ = functional.multi_head_attention_forward(
            steps,
            steps,
            steps,
            embed_dim_to_check=steps.shape[2],
            num_heads=4,
            in_proj_weight=torch.cat([self.state[f"{part}.weight"] for part in parts]),
            in_proj_bias=torch.cat([self.state[f"{part}.bias"] for part in parts]),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self.state[f"{name}.attention.out_proj.weight"],
            out_proj_bias=self.state[f"{name}.attention.out_proj.bias"],
            training=False,
        )
        width = steps.shape[2:]
        steps = functional.layer_norm(
            steps + attended, width, *self.pair(f"{name}.layer_norm"), 1e-6
        )
        hidden = self.dense(f"{name}.feed_forward.intermediate_dense", steps)
        hidden = 0.5 * hidden * (1 + (0.7978845608 * (hidden + 0.044715 * hidden**3)).tanh())
        steps = steps + self.dense(f"{name}.feed_forward.output_dense", hidden)
        steps = functional.layer_norm(steps, width, *self.pair(f"{name}.final_layer_norm"), 1e-6)
        return x + self.conv(f"{inner}.exp_dim_conv", steps.permute(1, 2, 0))

    def pooled(self, x: Tensor) -> Tensor:
        seen = x
        if self.sizes.context:
            mean = x.mean(dim=2, keepdim=True) * torch.ones_like(x)
            deviation = (x.var(dim=2, keepdim=True) + 1e-10).sqrt() * torch.ones_like(x)
            seen = torch.cat([x, mean, deviation], dim=1)
        weights = self.conv("pool.linear2", self.conv("pool.linear1", seen).tanh()).softmax(dim=2)
        mean = torch.einsum("bct,bct->bc", weights, x)
        variance = torch.einsum("bct,bct->bc", weights, x**2) - mean**2
        statistics = torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=1)
        return self.dense("seg_1", statistics)


def test_a_checkpoint_is_adopted(lively: Lively, tmp_path: Path) -> None:
    torch.manual_seed(1)
    path = tmp_path / "avg_model.pt"
    torch.save(lively(ReDimNet(FAMILY["b0"], embedding_dim=32, two=True)).state_dict(), path)
    request = adopt.Request(
        str(path), architecture="wespeaker-redimnet-b0", licence="MIT", windows=Windows(0.8, 0.4)
    )
    with adopt.make_candidate(request) as candidate:
        assert gate(candidate).cosine >= 0.99999
