"""Measure how much audio a second of processor time embeds, in Sayso and in its alternatives.

    python -m benchmarks.speed.peers [--threads 1] [--turns 3] [--seconds 3] [--cores 2]

Writes benchmarks/results/peers.json. SpeechBrain's ECAPA-TDNN, sherpa-onnx's extractor and
Resemblyzer embed the demo's recordings, each in turn in a process of its own; NVIDIA's Triton
serves the same ONNX file over gRPC. `make peers` installs them beside the project; what is not
there is left out. Encoders are of the same width, with weights drawn at random where none ship.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.figures import Figure, above, figure, merge
from benchmarks.processes import confine_to_cores, processor_s
from benchmarks.speed.clips import encode_wideband, read_voices
from benchmarks.speed.extractors import EXTRACTORS, Effort
from benchmarks.speed.streaming import VOICE, start_server
from benchmarks.speed.unheard import replace_voice_activity
from benchmarks.speed.verifying import VERIFY, list_other_cores, send_in_turn, start_process
from exporters.graph import trace_part
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import ROOT
from training import config, encoders

PEERS = ROOT / "build" / "peers" / "bin" / "python"
TRITON = ROOT / "build" / "triton" / "bin" / "python"
INFER = "/inference.GRPCInferenceService/ModelInfer"
CALLERS = 16
SETTLING_S = 1.0
BESIDE = {  # each peer, and which part of Sayso does as much
    "speechbrain": "sayso_embedding",
    "sherpa_onnx": "sayso_embedding",
    "resemblyzer": "sayso_pipeline",
}
WHAT = {
    "sayso_embedding": "the session on whole recordings",
    "sayso_pipeline": "voice activity, overlapping windows and the session",
    "speechbrain": "its features and ECAPA-TDNN of the same width in PyTorch, on whole recordings",
    "sherpa_onnx": "its features and the same encoder in its extractor, on whole recordings",
    "resemblyzer": "its voice activity, partial utterances and LSTM, as shipped",
}

SERVERS = {
    "triton": "float32 windows to the same ONNX file in ONNX Runtime under its Python backend",
    "verify": "Verify of as much PCM, with voice activity and a store",
    "all_speech": "the same, its voice activity replaced by one that costs nothing",
}


class OnFeatures(nn.Module):
    """features (batch, frames, mels), as sherpa-onnx makes them, to embedding (batch, dim)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> Tensor:
        embedding = self.encoder(features.transpose(1, 2))
        return functional.normalize(embedding, dim=1)


def make_features_graph(recipe: config.Recipe, path: Path) -> None:
    """Export the recipe's encoder without its front end, with the metadata that sherpa-onnx
    needs."""
    encoder = OnFeatures(encoders.build(recipe).encoder)
    axes = {"x": {0: "batch", 1: "frames"}, "embedding": {0: "batch"}}
    graph = trace_part(encoder, torch.randn(2, 300, recipe.front_end.mels), axes=axes)
    for key, value in {
        "framework": "wespeaker",
        "language": "any",
        "sample_rate": str(recipe.front_end.sample_rate_hz),
        "output_dim": str(recipe.encoder.embedding_dim),
        "normalize_samples": "0",
        "feature_normalize_type": "global-mean",
    }.items():
        graph.metadata_props.add(key=key, value=value)
    onnx.save(graph, path)


@dataclass(frozen=True, slots=True)
class Material:
    """What every extractor is given."""

    model: Path
    graph: Path
    recordings: Path
    width: int

    @classmethod
    def prepare(cls, model: Path, folder: Path) -> "Material":
        contract = Session.open(model, device="cpu", threads=1).contract
        recipe = config.Recipe.model_validate(contract.provenance["recipe"])
        assert isinstance(recipe.encoder, config.Ecapa), "peers are compared by an ECAPA-TDNN"
        make_features_graph(recipe, folder / "features.onnx")
        np.savez(folder / "recordings.npz", *read_voices())
        return cls(model, folder / "features.onnx", folder / "recordings.npz", recipe.encoder.width)


def run_extractor(name: str, given: Material, threads: int, seconds: float) -> Effort | None:
    """Run one extractor in a process; None if the peer is not installed."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "client"))),
    }
    command = [PEERS if PEERS.exists() else sys.executable, "-m", "benchmarks.speed.extractors"]
    options = {
        "--model": given.model,
        "--graph": given.graph,
        "--width": given.width,
        "--threads": threads,
        "--seconds": seconds,
    }
    arguments = [name, given.recordings, *(part for pair in options.items() for part in pair)]
    done = subprocess.run(
        [str(part) for part in (*command, *arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        print(f"{name} is left out: {done.stderr.splitlines()[-1]}")
        return None
    done.check_returncode()
    return Effort(**json.loads(done.stdout.splitlines()[-1]))


def run_extractors(model: Path, threads: int, turns: int, seconds: float) -> list[Figure]:
    """Run every extractor in turn, several times."""
    found: dict[str, list[Effort]] = {}
    with tempfile.TemporaryDirectory() as folder:
        given = Material.prepare(model, Path(folder))
        for _ in range(turns):
            for name in EXTRACTORS:
                if (spent := run_extractor(name, given, threads, seconds)) is not None:
                    found.setdefault(name, []).append(spent)
    return [*own_figures(found, threads), *ratios(found, threads)]


def own_figures(found: dict[str, list[Effort]], threads: int) -> list[Figure]:
    made = []
    for name, efforts in found.items():
        how = f"{WHAT[name]}; the demo's recordings on {threads} thread(s)"
        speeds, peaks = [one.speed for one in efforts], [one.peak_mb for one in efforts]
        made += [
            figure(f"peers_{name}", speeds, "audio s/CPU s", None, how),
            figure(f"peers_{name}_peak", peaks, "MB", None, f"of the whole process; {how}"),
        ]
    return made


def ratios(found: dict[str, list[Effort]], threads: int) -> list[Figure]:
    made = []
    for peer, own in BESIDE.items():
        pairs = list(zip(found.get(own, []), found.get(peer, []), strict=False))
        if not pairs:
            continue
        how = f"{WHAT[own]}, beside {WHAT[peer]}; {threads} thread(s), in turn"
        speeds = [ours.speed / theirs.speed for ours, theirs in pairs]
        peaks = [theirs.peak_mb / ours.peak_mb for ours, theirs in pairs]
        made += [
            figure(f"peers_over_{peer}", speeds, "times", above(1.0), f"audio a CPU second: {how}"),
            figure(f"peers_memory_of_{peer}", peaks, "times", above(1.0), f"peak over ours: {how}"),
        ]
    return made


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests in a second, and in a second of the processor time of the server."""

    a_second: float
    a_cpu_second: float


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, which may have several processes, and a request for it."""

    pid: int
    address: str
    request: bytes
    method: str = VERIFY

    def cpu_s(self) -> float:
        return sum(map(processor_s, list_family(self.pid)))


def list_family(pid: int) -> Iterator[int]:
    """List a process, its children and theirs."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            yield from list_family(int(child))


@contextmanager
def start_triton(model: Path, cores: int, samples: int) -> Iterator[Served]:
    """Start a Triton on the first `cores`."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"),  # its stub wants this libpython
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = stack.enter_context((folder / "triton.log").open("w"))
        command = [TRITON, "-m", "benchmarks.speed.triton", model, folder / "request.bin"]
        with confine_to_cores(set(sorted(os.sched_getaffinity(0))[:cores])):
            running = subprocess.Popen(
                [*map(str, command), f"--threads={cores}", f"--samples={samples}"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        stack.enter_context(running)
        assert running.stdout is not None and running.stdin is not None
        stack.callback(running.stdin.close)
        lines = (line for line in running.stdout if line.startswith("serving on "))
        if not (line := next(lines, "")):
            raise RuntimeError(f"Triton did not start: {(folder / 'triton.log').read_text()}")
        request = (folder / "request.bin").read_bytes()
        yield Served(running.pid, line.split()[-1], request, INFER)


def compare_with_triton(model: Path, cores: int, turns: int, seconds: float) -> list[Figure]:
    """Measure requests of one window a second, of Triton and of two servers, in turn."""
    contract = Session.open(model, device="cpu", threads=1).contract
    speech = np.concatenate(read_voices())[: contract.window_samples]
    own = encode_wideband(speech).request(VOICE)
    with ExitStack() as stack:
        heard = stack.enter_context(start_server(model, cores))
        with replace_voice_activity():
            deaf = stack.enter_context(start_server(model, cores))
        peer = stack.enter_context(start_triton(model, cores, contract.window_samples))
        callers = stack.enter_context(start_process(list_other_cores(cores)))
        servers = {
            "triton": peer,
            "verify": Served(heard.process.pid, heard.address, own),
            "all_speech": Served(deaf.process.pid, deaf.address, own),
        }
        rates: dict[str, list[Rate]] = {name: [] for name in servers}
        for _ in range(turns):
            for name, each in servers.items():
                rates[name].append(measure_requests(each, callers, seconds))
    load = f"{CALLERS} callers, one window of {contract.window_s:g} s a request, {cores} core(s)"
    return triton_figures(rates, load)


def measure_requests(served: Served, callers: Executor, seconds: float) -> Rate:
    """Measure requests a second, and requests in a second of the server's processor time."""
    began_s, total_s = served.cpu_s(), SETTLING_S + seconds
    answers = callers.submit(
        send_in_turn, served.address, [served.request], CALLERS, total_s, served.method
    ).result()
    by_cpu = len(answers.which) / (served.cpu_s() - began_s)
    return Rate(len(answers.select_answered(SETTLING_S, total_s)) / seconds, by_cpu)


def triton_figures(rates: dict[str, list[Rate]], load: str) -> list[Figure]:
    made = []
    for name, found in rates.items():
        how = f"{SERVERS[name]}; {load}"
        values = [one.a_second for one in found]
        made.append(figure(f"peers_{name}_requests", values, "requests/s", None, how))
        if name == "triton":
            continue
        pairs = list(zip(found, rates["triton"], strict=True))
        over = [ours.a_second / theirs.a_second for ours, theirs in pairs]
        by_cpu = [ours.a_cpu_second / theirs.a_cpu_second for ours, theirs in pairs]
        explained = f"{how}; over Triton in turn"
        made += [
            figure(f"peers_{name}_over_triton", over, "times", above(1.0), explained),
            figure(
                f"peers_{name}_over_triton_by_processor_time",
                by_cpu,
                "times",
                None,
                f"requests in a second of processor time; {explained}",
            ),
        ]
    return made


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--threads", type=int, default=1, help="of each extractor")
    parser.add_argument("--cores", type=int, default=2, help="of each server")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of processor time in a turn")
    arguments = parser.parse_args(given)
    model = arguments.model.resolve()
    figures = run_extractors(model, arguments.threads, arguments.turns, arguments.seconds)
    if TRITON.exists():
        figures += compare_with_triton(model, arguments.cores, arguments.turns, arguments.seconds)
    else:
        print("Triton is left out: `make peers` installs it")
    merge("peers", "peers_", figures)


if __name__ == "__main__":
    main()
