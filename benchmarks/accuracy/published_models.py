"""Measure every adopted architecture beside its peer's own pipeline: docs/learn/adopting.md.

    python -m benchmarks.accuracy.published_models [--manifest ../shared/data/manifest.csv]

Needs the peers' packages: `pip install resemblyzer speechbrain` and, without their dependencies,
`pip install --no-deps pyannote.audio funasr einops`. What lies between the markers in
docs/learn/adopting.md is replaced; the rest is prose.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import os
import platform
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import pages
from benchmarks.accuracy.resemblyzer_pipeline import ResemblyzerPipeline
from evaluation import metrics
from evaluation.scoring import embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import System
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest, trials
from exporters import model_file, parity
from exporters.macs import count_macs
from exporters.publish import Windows, publish
from exporters.sources import adopt
from exporters.tuning import quantize, windows
from exporters.voices import load_voices

ROOT = Path(__file__).resolve().parents[2]
RATE, WINDOW_S = 16000, 3.0
REPEATS = 5
PAGE = ROOT / "docs" / "learn" / "adopting.md"
SHIPPED = ROOT / "models" / "sayso.onnx"
SECTIONS = ("architectures", "variants", "errors")
Pipeline = Callable[[Tensor], Tensor]


def import_bare_module(name: str) -> Any:
    """Import one module of an installed package without running the package's `__init__`s."""
    parents = name.split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        parent = ".".join(parents[:depth])
        if parent not in sys.modules:
            found = importlib.util.find_spec(parent)
            if found is None:
                raise SystemExit(f"{parents[0]} is not installed")
            package = types.ModuleType(parent)
            package.__path__ = list(found.submodule_search_locations or ())
            sys.modules[parent] = package
    return importlib.import_module(name)


def randomize_weights(model: nn.Module) -> nn.Module:
    """Draw random weights, and statistics with which batch norms change what they are given."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(0.1 * torch.randn(tensor.shape))
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape))
    return model.eval()


def kaldi_pipeline(encoder: nn.Module, *, window: str, scale: float, mels: int = 80) -> Pipeline:
    from torchaudio.compliance import kaldi  # noqa: PLC0415

    def embed(waveform: Tensor) -> Tensor:
        features = kaldi.fbank(
            waveform[None] * scale, num_mel_bins=mels, window_type=window, dither=0.0
        )
        features = (features - features.mean(dim=0))[None]  # (1, frames, mels)
        ours = type(encoder).__module__.startswith("training.")
        found = encoder(features.transpose(1, 2) if ours else features)
        embedding: Tensor = found[-1] if isinstance(found, tuple) else found
        return embedding

    return embed


def speechbrain_pipeline(encoder: nn.Module) -> Pipeline:
    processing = importlib.import_module("speechbrain.processing.features")
    stft = processing.STFT(sample_rate=RATE, win_length=25, hop_length=10, n_fft=400)
    filters = processing.Filterbank(n_mels=80, n_fft=400, f_max=8000)

    def embed(waveform: Tensor) -> Tensor:
        features = filters(processing.spectral_magnitude(stft(waveform[None])))
        found: Tensor = encoder(features - features.mean(dim=1, keepdim=True))
        return found.flatten(1)

    return embed


def wespeaker_resnet(block: str, depths: list[int]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        peer = import_bare_module("pyannote.audio.models.embedding.wespeaker.resnet")
        encoder: nn.Module = peer.ResNet(
            getattr(peer, block), depths, feat_dim=80, embed_dim=256, two_emb_layer=False
        )
        return encoder

    return build


def wespeaker_ecapa() -> nn.Module:
    from training.encoders.ecapa import EcapaTdnn  # noqa: PLC0415

    return EcapaTdnn(width=512, mels=80, embedding_dim=192, layout="wespeaker-glob")


def campplus() -> nn.Module:
    from training.encoders.campplus import CamPlusPlus  # noqa: PLC0415

    return CamPlusPlus(mels=80, embedding_dim=512, layout="3d-speaker")


def redimnet_b2() -> nn.Module:
    from training.encoders.redimnet import FAMILY, ReDimNet  # noqa: PLC0415

    return ReDimNet(FAMILY["b2"], embedding_dim=192, two=False)


def eres2netv2() -> nn.Module:
    peer = import_bare_module("funasr.models.eres2net.eres2netv2")
    encoder: nn.Module = peer.ERes2NetV2(m_channels=64, feat_dim=80, embedding_size=192)
    return encoder


def speechbrain_ecapa() -> nn.Module:
    lobe = importlib.import_module("speechbrain.lobes.models.ECAPA_TDNN")
    encoder: nn.Module = lobe.ECAPA_TDNN(80, channels=[1024, 1024, 1024, 1024, 3072])
    return encoder


def speechbrain_resnet() -> nn.Module:
    lobe = importlib.import_module("speechbrain.lobes.models.ResNet")
    encoder: nn.Module = lobe.ResNet(input_size=80)
    return encoder


@dataclass(frozen=True, slots=True)
class Peer:
    """An architecture, whose code stands for the peer, and how it is run there."""

    build: Callable[[], nn.Module]
    pipeline: Callable[[nn.Module], Pipeline]
    code: str


def _wespeaker(encoder: nn.Module) -> Pipeline:
    return kaldi_pipeline(encoder, window="hamming", scale=32768.0)


def _redimnet(encoder: nn.Module) -> Pipeline:
    return kaldi_pipeline(encoder, window="hamming", scale=32768.0, mels=72)


def _three_d_speaker(encoder: nn.Module) -> Pipeline:
    return kaldi_pipeline(encoder, window="povey", scale=1.0)


PEERS: Mapping[str, Peer] = {
    "speechbrain-ecapa": Peer(speechbrain_ecapa, speechbrain_pipeline, "SpeechBrain"),
    "speechbrain-resnet": Peer(speechbrain_resnet, speechbrain_pipeline, "SpeechBrain"),
    "wespeaker-ecapa": Peer(wespeaker_ecapa, _wespeaker, "torchaudio, rebuilt encoder"),
    "wespeaker-resnet34": Peer(
        wespeaker_resnet("BasicBlock", [3, 4, 6, 3]), _wespeaker, "torchaudio, pyannote.audio"
    ),
    "wespeaker-resnet221": Peer(
        wespeaker_resnet("Bottleneck", [6, 16, 48, 3]), _wespeaker, "torchaudio, pyannote.audio"
    ),
    "wespeaker-resnet293": Peer(
        wespeaker_resnet("Bottleneck", [10, 20, 64, 3]), _wespeaker, "torchaudio, pyannote.audio"
    ),
    "wespeaker-campplus": Peer(campplus, _wespeaker, "torchaudio, rebuilt encoder"),
    "wespeaker-redimnet-b2": Peer(redimnet_b2, _redimnet, "torchaudio, rebuilt encoder"),
    "3d-speaker-campplus": Peer(campplus, _three_d_speaker, "torchaudio, rebuilt encoder"),
    "3d-speaker-eres2netv2": Peer(eres2netv2, _three_d_speaker, "torchaudio, FunASR"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; times in seconds for one window, medians of alternating runs."""

    name: str
    weights: str
    code: str
    cosine: float
    size_mb: float
    gigamacs: float
    ours_s: float
    peers_s: float

    def line(self) -> str:
        cells = [
            f"`{self.name}`",
            self.weights,
            self.code,
            f"{self.cosine:.6f}",
            f"{self.size_mb:.1f}",
            f"{self.gigamacs:.2f}",
            f"{1e3 * self.ours_s:.0f}",
            f"{1e3 * self.peers_s:.0f}",
            f"{self.peers_s / self.ours_s:.1f}",
        ]
        return f"| {' | '.join(cells)} |"


def compare(name: str, path: Path, peer: Pipeline, weights: str, code: str) -> Row:
    """Compare the model file at `path` with `peer` on real speech, one thread each, in turn."""
    graph, contract = model_file.read(path)
    ours = parity.graph_embed(graph)
    waveforms, _ = load_voices(None, rate=RATE, samples=contract.window_samples, count=6)
    least, times = 1.0, ([], [])  # type: tuple[float, tuple[list[float], list[float]]]
    with torch.inference_mode():
        for row in waveforms:
            theirs = functional.normalize(peer(torch.from_numpy(row))).numpy()
            least = min(least, parity.least_cosine(ours(row[None]), theirs))
        for _ in range(REPEATS):
            times[0].append(_time(lambda: ours(waveforms[:1])))
            times[1].append(_time(lambda: peer(torch.from_numpy(waveforms[0]))))
    size_mb = path.stat().st_size / 1e6
    gigamacs = count_macs(graph, contract.window_samples) / 1e9
    return Row(name, weights, code, least, size_mb, gigamacs, median(times[0]), median(times[1]))


def _time(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def make_random_row(name: str, folder: Path) -> Row:
    peer = PEERS[name]
    torch.manual_seed(0)
    encoder = randomize_weights(peer.build())
    torch.save(encoder.state_dict(), folder / "model.pt")
    request = adopt.Request(
        str(folder / "model.pt"),
        architecture=name,
        licence="none: random weights",
        windows=Windows(WINDOW_S, WINDOW_S / 2),
    )
    with adopt.make_candidate(request) as candidate:
        publish(candidate, folder / "model.onnx")
    return compare(name, folder / "model.onnx", peer.pipeline(encoder), "random", peer.code)


def make_resemblyzer_row(path: Path) -> Row:
    encoder = importlib.import_module("resemblyzer").VoiceEncoder("cpu", verbose=False)

    def pipeline(waveform: Tensor) -> Tensor:
        level = waveform.square().mean().sqrt()
        loud = waveform * max(1.0, float(10**-1.5 / level))
        return torch.from_numpy(encoder.embed_utterance(loud.numpy()))[None]

    return compare("resemblyzer", path, pipeline, "its own", "Resemblyzer")


async def render_error_table(
    path: Path,
    others: Mapping[str, Path],
    more: Mapping[str, Path],
    table: Path,
    cache_file: Path,
) -> list[str]:
    """Tabulate EER by corpus on the dev split: the package's own pipeline, the models and their
    8-bit variants, except of `more`."""
    clips = manifest.read(table, "dev")
    asked = trials.make_pairs(clips, limit=1_000_000)
    corpora = sorted({clip.corpus for clip in clips})
    lines = [
        f"| system | {' | '.join(corpora)} | all | clips not acquired |",
        f"|---|{'---|' * (len(corpora) + 2)}",
    ]
    with Cache.open(cache_file) as cache:

        async def add(title: str, system: System) -> None:
            found = await embeddings.embed(system, asked.clips, cache, label=title)
            scored = scores.score(asked, found)
            cosine, target = scored.measures.cosine, scored.trials.target
            keeps = [scored.trials.corpus == corpus for corpus in corpora]
            cells = [
                f"{metrics.eer(metrics.Sweep.of(cosine[k & target], cosine[k & ~target])):.1%}"
                for k in [*keeps, np.ones(len(target), bool)]
            ]
            lines.append(f"| {title} | {' | '.join(cells)} | {int((~found.acquired).sum())} |")

        await add("Resemblyzer's own pipeline", ResemblyzerPipeline())
        graph, contract = model_file.read(path)
        longer = Windows(2.37, 1.54, 0.5, (0.5, 0.9, 1.3, 1.6, 2.0))
        repeated = Windows(1.6, 0.77, 0.5)
        with tempfile.TemporaryDirectory() as folder:
            files = {"adopted, as it is written": path}
            for title, choice in (
                ("adopted, windows of 2.37 s", longer),
                ("adopted, short speech repeated", repeated),
            ):
                files[title] = Path(folder) / f"{len(files)}.onnx"
                model_file.write(files[title], graph, windows.apply(contract, choice))
            files.update({**others, **more})
            for name, model in {"adopted": path, **others}.items():
                small = files[f"{name}, int8"] = Path(folder) / f"{len(files)}.onnx"
                quantize.publish(model, "int8", small)
            for title, file in files.items():
                async with SaysoModel.open(file) as system:
                    await add(title, system)
    lines.append(f"\n{len(asked):,} trials of {len({c.speaker for c in clips})} speakers.")
    return lines


def render_variant_table(files: Mapping[str, Path]) -> list[str]:
    lines = [
        "| model | kind | MB | least cosine | mean cosine | time against fp32 |",
        "|---|---|---|---|---|---|",
    ]
    for name, path in files.items():
        graph, contract = model_file.read(path)
        for kind in ("fp16", "int8"):
            small = quantize.make_variant(graph, contract, kind, None)
            run, base = parity.graph_embed(small.graph), parity.graph_embed(graph)
            row = load_voices(None, rate=RATE, samples=contract.window_samples, count=1)[0]
            both = [(_time(partial(run, row)), _time(partial(base, row))) for _ in range(9)]
            ratio = median(one for one, _ in both) / median(other for _, other in both)
            size_mb = small.graph.ByteSize() / 1e6
            lines.append(
                f"| {name} | {kind} | {size_mb:.1f} | {small.least:.5f} | {small.mean:.5f} "
                f"| {ratio:.2f} |"
            )
    return lines


def rewrite(section: str, lines: list[str]) -> None:
    """Replace what lies between the markers of `section` in the page."""
    begin, end = f"<!-- {section} -->\n", f"<!-- /{section} -->"
    pages.write_section(PAGE, begin, end, "\n".join([*lines, ""]))
    print(*lines, sep="\n", flush=True)


def render_architecture_table(adopted: Path, folder: Path) -> list[str]:
    rows = [make_resemblyzer_row(adopted), *(make_random_row(name, folder) for name in PEERS)]
    return [
        "| model | weights | peer's code | parity | MB | GMAC | ms | peer's ms | times |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row.line() for row in rows),
        "",
        f"One thread of {processor()}, ONNX Runtime {onnxruntime.__version__}, torch "
        f"{torch.__version__}; windows of {WINDOW_S:g} s, Resemblyzer's of 1.6 s.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, default=ROOT.parent / "shared/data/manifest.csv")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "models.sqlite")
    parser.add_argument(
        "--also", metavar="TITLE=FILE", action="append", default=[], help="a row more of errors"
    )
    parser.add_argument("--only", choices=SECTIONS, action="append", help="just this table")
    arguments = parser.parse_args()
    wanted = arguments.only or SECTIONS
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        adopted = folder / "resemblyzer.onnx"
        with adopt.make_candidate(adopt.Request("resemblyzer")) as candidate:
            publish(candidate, adopted)
        shipped = {"sayso (shipped)": SHIPPED} if SHIPPED.is_file() else {}
        if "architectures" in wanted:
            rewrite("architectures", render_architecture_table(adopted, folder))
        if "variants" in wanted:
            rewrite("variants", render_variant_table({"resemblyzer": adopted, **shipped}))
        if "errors" in wanted:
            more = {
                title: Path(file) for title, file in (row.split("=", 1) for row in arguments.also)
            }
            table = render_error_table(adopted, shipped, more, arguments.manifest, arguments.cache)
            rewrite("errors", asyncio.run(table))


def processor() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{(names or [platform.machine()])[0]} ({os.cpu_count()} cores)"


if __name__ == "__main__":
    main()
