"""Search: many voices in blocks of one matrix, and the best of them for one embedding; exact.

    query -> products of 8-bit codes with every voice -> candidates -> products in float32

The time of a search is that of reading the voices from memory, so full blocks are compared by codes
of a quarter of their size, whose error is bounded. Every voice that may be among the best within
that bound is compared again in float32: the result is that of comparing all voices in float32.
Not thread-safe: one call at a time.
"""

import base64
import functools
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.calls.ranking import HALF, Ranking, Scale, Traits, Vector

BLOCK_ROWS = 16_384
PRODUCTS = base64.b64decode(
    "CAU6ZwoYCgFhCgFiEgF5Ig1NYXRNdWxJbnRlZ2VyEghwcm9kdWN0c1oUCgFhEg8KDQgCEgkKAggBCgMSAWtaFQoBYhIQ"
    "Cg4IAxIKCgMSAWsKAxIBbmIUCgF5Eg8KDQgGEgkKAggBCgMSAW5CBAoAEAo="
)
"""An ONNX graph of one node: `y (1, n) int32` is MatMulInteger of `a (1, k) uint8` and
`b (k, n) int8`."""

_VOICE_STEPS = 127
_QUERY_STEPS = 63  # products of pairs then fit 16 bits, where a processor adds them in those
_ROUNDING = 1e-4
_STRIDE = 1024


@dataclass(frozen=True, slots=True)
class Hit:
    speaker_id: str
    cosine: float
    llr: float


class Query:
    """An embedding `(k,)` quantized in whole steps of its largest value, and the error of that."""

    def __init__(self, vector: Vector) -> None:
        self.vector = vector
        self.step = float(np.abs(vector).max(initial=0.0)) / _QUERY_STEPS or 1.0
        steps = np.rint(vector / np.float32(self.step))
        self.codes = (steps + _QUERY_STEPS).astype(np.uint8)[None, :]  # (1, k), all above zero
        self.error = float(np.linalg.norm(vector - steps * np.float32(self.step)))


class Codes:
    """Unit vectors of voices `(n, k)` quantized in whole steps of each one's largest value, stored
    transposed, and the largest error of that."""

    def __init__(self, rows: int, dimension: int) -> None:
        self._codes = np.zeros((dimension, rows), np.int8)
        self._steps = np.zeros(rows, np.float32)
        self._shifts = np.zeros(rows, np.float32)
        self._error = 0.0

    @classmethod
    def of(cls, voices: Vector) -> Self:
        codes = cls(*voices.shape)
        codes.put(slice(None), voices)
        return codes

    def put(self, rows: slice, voices: Vector) -> None:
        """Store the codes of `voices (n, k)` in these rows."""
        steps = np.abs(voices).max(axis=1) / np.float32(_VOICE_STEPS)  # (n,)
        codes = np.rint(voices / np.maximum(steps, np.float32(1e-12))[:, None])  # (n, k)
        errors = np.linalg.norm(voices - codes * steps[:, None], axis=1)  # (n,)
        self._codes[:, rows] = codes.T.astype(np.int8)
        self._steps[rows] = steps
        self._shifts[rows] = _QUERY_STEPS * codes.sum(axis=1)
        self._error = max(self._error, float(errors.max()))

    def compute_cosines(self, query: Query) -> Vector:
        """Compute cosines `(n,)`, each within `bound_error(query)` of the exact one."""
        (products,) = _open_products().run(None, {"a": query.codes, "b": self._codes})
        cosines: Vector = products[0].astype(np.float32)  # whole numbers below 2 ** 24
        cosines -= self._shifts
        cosines *= self._steps
        cosines *= np.float32(query.step)
        return cosines

    def bound_error(self, query: Query) -> float:
        """Bound |x·q - x'·q'| <= |x||q - q'| + |x - x'||q'|, where |x| and |q| are at most 1."""
        return query.error + self._error * (1 + query.error)


class _Block:
    """Voices `(rows, k)`, and their codes once all rows are in use."""

    def __init__(self, rows: int, dimension: int) -> None:
        self.voices = np.zeros((rows, dimension), np.float32)
        self.traits = Traits(np.zeros((3, rows), np.float32))
        self.codes: Codes | None = None

    def put(self, row: int, voice: Vector, log_speech: float, scale: Scale) -> None:
        self.voices[row] = voice
        self.traits.put(row, log_speech, scale)
        if self.codes is not None:
            self.codes.put(slice(row, row + 1), voice[None, :])
        elif row == len(self.voices) - 1:
            self.codes = Codes.of(self.voices)

    def compute_cosines(self, query: Query, used: int) -> Vector:
        """Compute the cosines of the first `used` rows, exact or by codes."""
        if self.codes is not None:
            return self.codes.compute_cosines(query)
        cosines: Vector = self.voices[:used] @ query.vector
        return cosines

    def clear_last(self, row: int) -> None:
        """Overwrite the last row in use."""
        self.voices[row] = 0
        self.codes = None


class Voices:
    """L2-normalized voices `(n, dimension)` by slot, in memory that follows their number."""

    def __init__(self, dimension: int, *, block_rows: int = BLOCK_ROWS) -> None:
        self._dimension = dimension
        self._block_rows = block_rows
        self._blocks: list[_Block] = []
        self._rows: dict[int, int] = {}
        self._slots: list[int] = []
        self._speaker_ids: list[str] = []
        self._log_speech = (0.0, 0.0)  # the least and the most of any voice so far
        self._max_gain = 0.0

    def __len__(self) -> int:
        return len(self._slots)

    def put(
        self, slot: int, speaker_id: str, voice: Vector, log_speech: float, scale: Scale = HALF
    ) -> None:
        """Add a voice `(dimension,)`, or change the one in that slot."""
        row = self._rows.setdefault(slot, len(self))
        if row == len(self):
            self._slots.append(slot)
            self._speaker_ids.append(speaker_id)
            if row == len(self._blocks) * self._block_rows:
                self._blocks.append(_Block(self._block_rows, self._dimension))
        self._speaker_ids[row] = speaker_id
        least, most = self._log_speech
        self._log_speech = (min(least, log_speech), max(most, log_speech))
        self._max_gain = max(self._max_gain, scale.gain)
        block, row_in_block = divmod(row, self._block_rows)
        self._blocks[block].put(row_in_block, voice, log_speech, scale)

    def drop(self, slot: int) -> None:
        """Remove the voice in that slot, if there is one; the last voice moves to its row."""
        if slot not in self._rows:
            return
        last, row = divmod(len(self) - 1, self._block_rows)
        block = self._blocks[last]
        if slot != self._slots[-1]:
            self._rows[self._slots[-1]] = self._rows[slot]
            self._slots[self._rows[slot]] = self._slots[-1]
            traits = block.traits.get(row)
            self.put(self._slots[-1], self._speaker_ids[-1], block.voices[row], *traits)
        block.clear_last(row)
        if row == 0:
            self._blocks.pop()
        del self._rows[slot], self._slots[-1], self._speaker_ids[-1]

    def find_best(self, query: Vector, ranking: Ranking, count: int) -> list[Hit]:
        """Find up to `count` voices by falling llr against the unit vector `query (dimension,)`."""
        rows = self._find_candidates(Query(query), ranking, count)
        voices, traits = self._gather(rows)
        cosines = voices @ query
        llrs = ranking.compute_llrs(cosines, traits)
        return [
            Hit(self._speaker_ids[rows[i]], float(cosines[i]), float(llrs[i]))
            for i in find_highest(llrs, count)
        ]

    def _find_candidates(self, query: Query, ranking: Ranking, count: int) -> NDArray[np.intp]:
        """Find the rows of all voices that may be among the best `count`."""
        llrs = np.empty(len(self), np.float32)
        error = 0.0
        for number, block in enumerate(self._blocks):
            block_llrs = llrs[number * self._block_rows : (number + 1) * self._block_rows]
            cosines = block.compute_cosines(query, block_llrs.size)
            block_llrs[:] = ranking.compute_llrs(cosines, block.traits[: block_llrs.size])
            error = max(error, block.codes.bound_error(query) if block.codes else 0.0)
        margin = 2 * error * ranking.find_steepest(self._log_speech, self._max_gain) + _ROUNDING
        peaks = np.maximum.reduceat(llrs, np.arange(0, llrs.size, _STRIDE))
        rows = np.flatnonzero(llrs >= _find_least(peaks, count) - margin)
        return rows[llrs[rows] >= _find_least(llrs[rows], count) - margin]

    def _gather(self, rows: NDArray[np.intp]) -> tuple[Vector, Traits]:
        """Copy the voices `(n, dimension)` in these rows, and their traits."""
        voices = np.empty((rows.size, self._dimension), np.float32)
        traits = Traits(np.empty((3, rows.size), np.float32))
        for number in np.unique(rows // self._block_rows):
            in_block = rows // self._block_rows == number
            block, block_rows = self._blocks[number], rows[in_block] % self._block_rows
            voices[in_block] = block.voices[block_rows]
            traits.values[:, in_block] = block.traits.values[:, block_rows]
        return voices, traits


def find_highest(scores: Vector, count: int) -> NDArray[np.intp]:
    """Find the indices of the `count` highest of `scores (n,)`, the highest first."""
    if count < scores.size:
        top = np.argpartition(scores, scores.size - count)[scores.size - count :]
    else:
        top = np.arange(scores.size)
    return top[np.argsort(-scores[top], kind="stable")]


def _find_least(scores: Vector, count: int) -> float:
    """Find the lowest of the `count` highest of `scores (n,)`."""
    if count >= scores.size:
        return -math.inf
    return float(np.partition(scores, scores.size - count)[scores.size - count])


@functools.cache
def _open_products() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(PRODUCTS, options, providers=["CPUExecutionProvider"])
