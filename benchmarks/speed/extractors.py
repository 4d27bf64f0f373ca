"""Embed the same recordings by Sayso and by its peers, each in a process of its own.

    python -m benchmarks.speed.extractors speechbrain recordings.npz --model models/sayso.onnx
        --threads 1

Prints as JSON how many seconds of audio it embedded, the processor time that took and the most
memory that the process held. Nothing but what an extractor needs is imported.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000

Samples = NDArray[np.float32]  # (n,) at 16 kHz
Embed = Callable[[Samples], object]


@dataclass(frozen=True, slots=True)
class Options:
    """`graph` is the model's encoder on features, made for sherpa-onnx, `width` that of both."""

    model: Path
    graph: Path
    width: int
    threads: int


@dataclass(frozen=True, slots=True)
class Effort:
    audio_s: float
    cpu_s: float
    peak_mb: float

    @property
    def speed(self) -> float:
        """Seconds of audio in a second of processor time."""
        return self.audio_s / self.cpu_s


def sayso_embedding(options: Options) -> Embed:
    """Embed whole recordings by the session alone, as the peers do."""
    from service.inference.session import Session  # noqa: PLC0415 - only what is measured

    session = Session.open(options.model, device="cpu", threads=options.threads, max_batch=1)
    return lambda samples: session.run(samples[np.newaxis])


def sayso_pipeline(options: Options) -> Embed:
    """Embed a recording as the service does: voice activity, windows that overlap, the session."""
    from benchmarks.speed.bare import cut_windows  # noqa: PLC0415
    from service.audio.speech import VoiceActivity  # noqa: PLC0415
    from service.inference.session import Session  # noqa: PLC0415

    session = Session.open(options.model, device="cpu", threads=options.threads)
    vad = VoiceActivity.open()
    return lambda samples: session.run(cut_windows(session.contract, vad, samples))


def speechbrain(options: Options) -> Embed:
    import torch  # noqa: PLC0415

    from benchmarks.speed.train import SpeechBrainEcapa  # noqa: PLC0415

    torch.set_num_threads(options.threads)
    encoder = SpeechBrainEcapa(options.width).eval()

    def embed(samples: Samples) -> object:
        with torch.inference_mode():
            return encoder(torch.from_numpy(samples).unsqueeze(0))

    return embed


def sherpa_onnx(options: Options) -> Embed:
    import sherpa_onnx as peer  # type: ignore[import-not-found]  # noqa: PLC0415

    config = peer.SpeakerEmbeddingExtractorConfig(
        model=str(options.graph), num_threads=options.threads, provider="cpu"
    )
    extractor = peer.SpeakerEmbeddingExtractor(config)

    def embed(samples: Samples) -> object:
        stream = extractor.create_stream()
        stream.accept_waveform(RATE, samples)
        stream.input_finished()
        return extractor.compute(stream)

    return embed


def resemblyzer(options: Options) -> Embed:
    import torch  # noqa: PLC0415

    from benchmarks.accuracy.resemblyzer_pipeline import ResemblyzerPipeline  # noqa: PLC0415

    torch.set_num_threads(options.threads)
    pipeline = ResemblyzerPipeline()
    return lambda samples: asyncio.run(pipeline.embed(samples))


EXTRACTORS: dict[str, Callable[[Options], Embed]] = {
    each.__name__: each
    for each in (sayso_embedding, sayso_pipeline, speechbrain, sherpa_onnx, resemblyzer)
}


def measure_effort(embed: Embed, recordings: list[Samples], seconds: float) -> Effort:
    """Measure whole rounds through the recordings, after a first one."""
    for samples in recordings:
        embed(samples)
    rounds, began_s = 0, time.process_time()
    while (taken_s := time.process_time() - began_s) < seconds:
        for samples in recordings:
            embed(samples)
        rounds += 1
    audio_s = rounds * sum(map(len, recordings)) / RATE
    return Effort(audio_s, taken_s, peak_mb())


def peak_mb() -> float:
    """Read the peak resident memory of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024 / 1e6
    raise ValueError("/proc/self/status tells no peak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extractor", choices=EXTRACTORS)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="of processor time, at least")
    arguments = parser.parse_args()
    recordings: Any = np.load(arguments.recordings)
    options = Options(arguments.model, arguments.graph, arguments.width, arguments.threads)
    embed = EXTRACTORS[arguments.extractor](options)
    found = measure_effort(
        embed, [recordings[name] for name in recordings.files], arguments.seconds
    )
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
