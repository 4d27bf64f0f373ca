"""Serve a model file by NVIDIA's Triton, through `nvidia-pytriton`.

    build/triton/bin/python -m benchmarks.speed.triton models/sayso.onnx request.bin --threads 2

Triton batches what comes while it works, without waiting, as Sayso does; what runs the graph is
ONNX Runtime under it, with the threads of Sayso's session. Writes a serialised request of one
window, says `serving on host:port` when it is ready, and ends with its standard input.
"""

import argparse
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pytriton.decorators import batch  # type: ignore[import-not-found]
from pytriton.model_config import (  # type: ignore[import-not-found]
    DynamicBatcher,
    ModelConfig,
    Tensor,
)
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]
from tritonclient.grpc import (  # type: ignore[import-not-found]
    InferenceServerClient,
    service_pb2,
)

MODEL = "sayso"
HOST = "127.0.0.1"
READY_S = 0.1

Floats = NDArray[np.float32]


def make_request(window: Floats) -> bytes:
    """Serialize a request for the embedding of `window (samples,)`."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="waveform", datatype="FP32", shape=[1, len(window)]
    )
    asked = service_pb2.ModelInferRequest(
        model_name=MODEL, inputs=[tensor], raw_input_contents=[window.astype("<f4").tobytes()]
    )
    return bytes(asked.SerializeToString())


def bind(triton: Triton, model: Path, threads: int, max_batch: int) -> None:
    """Bind the graph to Triton, with the options of Sayso's session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @batch  # type: ignore[untyped-decorator]
    def infer(waveform: Floats) -> Sequence[Floats]:
        embeddings: Sequence[Floats] = session.run(["embedding"], {"waveform": waveform})
        return embeddings

    triton.bind(
        model_name=MODEL,
        infer_func=infer,
        inputs=[Tensor(name="waveform", dtype=np.float32, shape=(-1,))],
        outputs=[Tensor(name="embedding", dtype=np.float32, shape=(-1,))],
        config=ModelConfig(max_batch_size=max_batch, batcher=DynamicBatcher()),
    )


def find_free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("request", type=Path)
    parser.add_argument("--samples", type=int, default=48_000, help="of the window")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=16)
    arguments = parser.parse_args()
    window = np.random.default_rng(0).normal(0, 0.1, arguments.samples).astype(np.float32)
    arguments.request.write_bytes(make_request(window))
    address = f"{HOST}:{(port := find_free_port())}"
    config = TritonConfig(
        http_address=HOST,
        http_port=find_free_port(),
        grpc_address=HOST,
        grpc_port=port,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        bind(triton, arguments.model, arguments.threads, arguments.max_batch)
        triton.run()
        client = InferenceServerClient(address)
        while not client.is_model_ready(MODEL):
            time.sleep(READY_S)
        print(f"serving on {address}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
