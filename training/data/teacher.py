"""What another model hears in the clips: the targets of distillation, computed once.

clip ─ each speed ─ middle seconds ─ teacher.onnx ─> targets (clips, speeds, dim)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import onnxruntime
import soxr

from training.augment import Waveform, wrap
from training.data.library import Library
from training.errors import TeacherError

LEAST_S, MOST_S = 1.0, 4.0
MIDDLE = 0.5


@dataclass(frozen=True, slots=True)
class Targets:
    """`embeddings (clips, speeds, dim)` float32 of unit length, for the clips of one library."""

    embeddings: npt.NDArray[np.float32]
    speeds: tuple[float, ...]
    data_digest: str
    teacher: str

    @property
    def dim(self) -> int:
        return int(self.embeddings.shape[2])

    def digest(self) -> str:
        """SHA-256 of the embeddings and speeds; the clips have a digest of their own."""
        vectors = np.ascontiguousarray(self.embeddings)
        return hashlib.sha256(f"{self.speeds}".encode() + vectors.tobytes()).hexdigest()

    def of(self, clip: int, speed: float) -> npt.NDArray[np.float32]:
        target: npt.NDArray[np.float32] = self.embeddings[clip, self.speeds.index(speed)]
        return target

    def for_run(self, library: Library, speeds: Sequence[float], chosen: Sequence[int]) -> Targets:
        """The targets of the chosen clips; TeacherError if made from other data, or if a speed is
        missing."""
        if self.data_digest != library.digest():
            raise TeacherError("the targets were made from other data; run `sayso-train teach`")
        if lacking := set(speeds) - set(self.speeds):
            raise TeacherError(
                f"the targets lack the speed {', '.join(map(str, sorted(lacking)))}; "
                "run `sayso-train teach` with this recipe"
            )
        return Targets(self.embeddings[chosen], self.speeds, self.data_digest, self.teacher)

    def agreement(self, speakers: Sequence[str]) -> npt.NDArray[np.float32]:
        """The cosine of each clip with the sum of its speaker's others, (clips,); 1 for a lone
        clip."""
        _, numbers = np.unique(np.asarray(speakers), return_inverse=True)
        vectors = self.embeddings[:, 0]
        sums = np.zeros((int(numbers.max()) + 1, self.dim), np.float32)
        np.add.at(sums, numbers, vectors)
        others = sums[numbers] - vectors
        lengths = np.linalg.norm(others, axis=1)
        cosines = (others * vectors).sum(axis=1) / np.maximum(lengths, 1e-6)
        alone = np.bincount(numbers)[numbers] == 1
        return np.where(alone, np.float32(1), cosines)

    def save(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(
                path,
                embeddings=self.embeddings,
                speeds=np.array(self.speeds),
                data_digest=self.data_digest,
                teacher=self.teacher,
            )
        except OSError as error:
            raise TeacherError(f"cannot write the targets {path}: {error}") from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises TeacherError on anything else."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return cls(
                    archive["embeddings"],
                    tuple(float(speed) for speed in archive["speeds"]),
                    str(archive["data_digest"]),
                    str(archive["teacher"]),
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise TeacherError(
                f"{path} holds no targets of `sayso-train teach`: {error}"
            ) from error


def open_teacher(model: Path, *, cuda: bool = False) -> onnxruntime.InferenceSession:
    """Open a teacher; raises TeacherError if it is no graph from `waveform` to embeddings."""
    providers = ["CUDAExecutionProvider"] if cuda else []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=[*providers, "CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime raises classes of its own, without a common base
        raise TeacherError(f"{model} cannot be loaded as a teacher: {error}") from error
    if [entry.name for entry in session.get_inputs()] != ["waveform"]:
        raise TeacherError(f"{model} does not start at a waveform; see `sayso-export adopt`")
    return session


def teach(
    model: Path,
    library: Library,
    *,
    sample_rate_hz: int,
    speeds: Sequence[float],
    threads: int = 2,
    cuda: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Targets:
    """Embed all clips at all speeds by `model`, waveform (1, samples) to embedding (1, dim).

    The teacher is given the middle 4 s of a clip at most, and 1 s at least, short clips repeated.
    Raises TeacherError if the model is no such graph. `advance` is called after each clip.
    """
    session = open_teacher(model, cuda=cuda)

    def embed(index: int) -> npt.NDArray[np.float32]:
        views = (_middle(library, index, speed, sample_rate_hz) for speed in speeds)
        return np.stack([session.run(None, {"waveform": view[None]})[0][0] for view in views])

    with ThreadPoolExecutor(threads) as pool:
        rows = []
        for row in pool.map(embed, range(len(library.clips))):
            rows.append(row)
            advance()
    embeddings = np.stack(rows).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=2, keepdims=True)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    return Targets(embeddings, tuple(speeds), library.digest(), f"{model.name} sha256:{digest}")


def _middle(library: Library, index: int, speed: float, rate_hz: int) -> Waveform:
    audio = library.audio[index]
    span = min(audio.size, round(MOST_S * rate_hz * speed))
    excerpt = wrap(audio, span, MIDDLE)
    if speed != 1.0:
        excerpt = soxr.resample(excerpt, rate_hz * speed, rate_hz)
    return wrap(excerpt, max(excerpt.size, round(LEAST_S * rate_hz)), 0.0)
