"""Measure what each encoder costs, and rewrite the table in docs/learn/encoders.md.

    python -m benchmarks.accuracy.encoders [--clips 64] [--steps 2] [--compile]

Times are seconds of processor time on one thread, taken in turn, so that what else runs on the
machine changes them little; weights are random, which changes nothing.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import pages
from benchmarks.accuracy.published_models import processor
from exporters import parity
from exporters.graph import trace
from exporters.macs import count_macs
from training import config, encoders
from training.encoders import SpeakerEncoder
from training.encoders.size import count_parameters

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "learn" / "encoders.md"
RATE, WINDOW_S, CROP_S = 16000, 3.0, 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The encoder section of a recipe."""

    encoder: dict[str, object]
    note: str = ""

    def build(self) -> SpeakerEncoder:
        torch.manual_seed(0)
        losses, schedule = [{"name": "triplet"}], {"steps": 1}
        recipe = {"encoder": self.encoder, "losses": losses, "schedule": schedule}
        return encoders.build(config.Recipe.model_validate(recipe))

    def title(self) -> str:
        options = (f"{key} {value}" for key, value in self.encoder.items() if key != "name")
        note = f" ({self.note})" if self.note else ""
        return f"`{self.encoder['name']}` {', '.join(options)}{note}"


def ecapa(width: int, groups: int, stride: int) -> dict[str, object]:
    return {"name": "ecapa", "width": width, "groups": groups, "stride": stride}


def resnet34(width: int, stride: int) -> dict[str, object]:
    return {"name": "resnet34", "width": width, "stride": stride}


def small_campplus() -> dict[str, object]:
    return {"name": "cam++", "head_width": 16, "layers": [4, 8, 6], "stride": 2}


CHOICES = (
    Choice(ecapa(160, 4, 2)),
    Choice(ecapa(192, 4, 2)),
    Choice(ecapa(256, 4, 2), note="shipped"),
    Choice(ecapa(512, 8, 1), note="the paper's"),
    Choice(resnet34(16, 2)),
    Choice(resnet34(16, 1)),
    Choice(resnet34(32, 2)),
    Choice(resnet34(32, 1), note="the papers'"),
    Choice(small_campplus()),
    Choice({"name": "cam++", "stride": 2}),
    Choice({"name": "cam++", "stride": 1}, note="the paper's"),
)


def spent_s(run: Callable[[], object]) -> float:
    start_s = time.process_time()
    run()
    return time.process_time() - start_s


def windows_s(graphs: list[parity.Embed], repeats: int) -> list[float]:
    """Time a window of each graph, in turn; return the median of each."""
    window = (0.1 * torch.randn(1, round(WINDOW_S * RATE))).numpy()
    rounds = [[spent_s(partial(graph, window)) for graph in graphs] for _ in range(repeats + 1)]
    return [median(times) for times in zip(*rounds[1:], strict=True)]


def clips_per_s(choice: Choice, clips: int, steps: int, *, compiled: bool) -> float:
    """Time a whole step with loss and optimizer: the quickest of `steps` after one warm-up step."""
    torch.compiler.reset()
    model = choice.build().train()
    embed = torch.compile(model, dynamic=False) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters())
    waveforms = 0.1 * torch.randn(clips, round(CROP_S * RATE))
    first = waveforms if compiled else waveforms[:4]  # a step of another shape compiles again
    learn(embed, optimizer, first)
    return clips / min(spent_s(lambda: learn(embed, optimizer, waveforms)) for _ in range(steps))


def learn(
    embed: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, waveforms: Tensor
) -> None:
    embeddings = embed(waveforms)
    optimizer.zero_grad(set_to_none=True)
    loss = functional.cross_entropy(10 * embeddings @ embeddings.T, torch.arange(len(waveforms)))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def table(repeats: int, clips: int, steps: int, ways: Mapping[str, bool]) -> str:
    """`ways` of training, by the title of their column: compiled or not."""
    models = [choice.build().eval() for choice in CHOICES]
    samples = round(WINDOW_S * RATE)
    graphs = [trace(model, 0.1 * torch.randn(2, samples)) for model in models]
    times_s = windows_s([parity.graph_embed(graph) for graph in graphs], repeats)
    lines = [
        f"| encoder | parameters, M | MMAC | ms a window | {' | '.join(ways)} |",
        f"|---|---|---|---|{'---|' * len(ways)}",
    ]
    for choice, model, graph, time_s in zip(CHOICES, models, graphs, times_s, strict=True):
        cells = [
            choice.title(),
            f"{count_parameters(model) / 1e6:.2f}",
            f"{count_macs(graph, samples) / 1e6:.0f}",
            f"{1e3 * time_s:.1f}",
            *(f"{clips_per_s(choice, clips, steps, compiled=way):.1f}" for way in ways.values()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    load = ", ".join(f"{mean:.1f}" for mean in os.getloadavg())
    lines += [
        "",
        f"One thread of {processor()}, ONNX Runtime {onnxruntime.__version__}, torch "
        f"{torch.__version__}, in processor time; windows of {WINDOW_S:g} s, medians of {repeats}; "
        f"steps of {clips} clips of {CROP_S:g} s in float32, the quickest of {steps} after a first "
        f"one. The load of the machine over 1, 5 and 15 minutes: {load}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--compile", action="store_true", help="also compiled; takes minutes each")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    ways = {"clips/s learned": False}
    if arguments.compile:
        ways["compiled"] = True
    measured = table(arguments.repeats, arguments.clips, arguments.steps, ways)
    pages.write_measured(PAGE, measured)


if __name__ == "__main__":
    main()
