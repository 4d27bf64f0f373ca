"""The models on this machine: their contracts, their digests, their speed."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.contract import Contract
from service.errors import ModelError
from service.inference.session import Session, digest_file

_TIMED_RUNS = 5


@dataclass(frozen=True, slots=True)
class Installed:
    """A model file that loads; `signed` when a digest lies beside it (and matches, or it would
    not have loaded). `speed` is seconds of audio embedded in one second, one window at a time."""

    path: Path
    contract: Contract
    provider: str
    sha256: str
    size_bytes: int
    signed: bool
    speed: float


def installed(folder: Path) -> list[Path]:
    """The model files of a folder, by name; raises `ModelError` when it is none."""
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}; correct SAYSO_MODEL or name another")
    return sorted(folder.glob("*.onnx"))


def inspect(path: Path) -> Installed:
    """Loads, checks and times a model; raises `ModelError` as the server would at start."""
    session = Session.open(path, device="auto")
    data = path.read_bytes()
    return Installed(
        path=path,
        contract=session.contract,
        provider=session.provider,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        signed=digest_file(path).exists(),
        speed=_speed(session),
    )


def _speed(session: Session) -> float:
    contract = session.contract
    window = np.random.default_rng(0).normal(0, 0.1, (1, contract.window_samples))
    taken_s = []
    for _ in range(_TIMED_RUNS):
        began_s = time.perf_counter()
        session.run(window.astype(np.float32))
        taken_s.append(time.perf_counter() - began_s)
    return contract.window_s / float(np.median(taken_s))
