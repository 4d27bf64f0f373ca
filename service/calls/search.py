"""Search: many voices in blocks of one matrix, and the best of them for one embedding; exact.

    query > products of 8-bit codes with every voice > who may be among the best > in float32

A search costs the memory that it reads, so full blocks are compared by codes of a quarter of their
size, whose error is bounded. Every voice that may be among the best within that bound is compared
again in float32: the result is that of comparing all of them so. One call at a time.
"""

import base64
import functools
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Vector = NDArray[np.float32]

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
class Scale:
    """What one side of a comparison makes of its cosine: `gain * cosine - shift`."""

    gain: float
    shift: float


HALF = Scale(0.5, 0.0)
"""Two of them leave a cosine as it is."""


class Traits:
    """What a ranking has to know of each of some voices, (n,) each: the log of its net speech in
    seconds, and its scale."""

    def __init__(self, values: Vector) -> None:
        self.values = values  # (3, n)
        self.log_speech, self.gain, self.shift = values

    def __getitem__(self, rows: Any) -> Self:
        return type(self)(self.values[:, rows])

    def put(self, row: int, log_speech: float, scale: Scale) -> None:
        self.values[:, row] = log_speech, scale.gain, scale.shift

    def at(self, row: int) -> tuple[float, Scale]:
        return float(self.log_speech[row]), Scale(float(self.gain[row]), float(self.shift[row]))


@dataclass(frozen=True, slots=True)
class Ranking:
    """The log-likelihood ratio of a voice from its score and the log of its net speech in seconds:
    `offset + offset_speech * speech + score * (slope + slope_speech * speech)`.

    The score is the cosine or, where the query has a `scale`, what both sides make of it together.
    """

    offset: float
    offset_speech: float
    slope: float
    slope_speech: float
    scale: Scale | None = None

    def llrs(self, cosines: Vector, traits: Traits) -> Vector:
        """Of `cosines (n,)` with as many voices."""
        scores = self._scores(cosines, traits)
        by_speech: Vector = scores * np.float32(self.slope_speech)
        by_speech += np.float32(self.offset_speech)
        by_speech *= traits.log_speech
        by_speech += np.float32(self.offset)
        by_speech += scores * np.float32(self.slope)
        return by_speech

    def steepest(self, log_speech: tuple[float, float], most_gain: float) -> float:
        """The most that a cosine weighs between two logs of net speech, up to a gain."""
        by_score = max(abs(self.slope + self.slope_speech * end) for end in log_speech)
        return by_score if self.scale is None else by_score * (most_gain + self.scale.gain)

    def _scores(self, cosines: Vector, traits: Traits) -> Vector:
        if self.scale is None:
            return cosines
        scores: Vector = traits.gain + np.float32(self.scale.gain)
        scores *= cosines
        scores -= traits.shift
        scores -= np.float32(self.scale.shift)
        return scores


@dataclass(frozen=True, slots=True)
class Hit:
    speaker_id: str
    cosine: float
    llr: float


class Query:
    """An embedding `(k,)` in whole steps of its largest value, and how far it is from itself."""

    def __init__(self, vector: Vector) -> None:
        self.vector = vector
        self.step = float(np.abs(vector).max(initial=0.0)) / _QUERY_STEPS or 1.0
        steps = np.rint(vector / np.float32(self.step))
        self.codes = (steps + _QUERY_STEPS).astype(np.uint8)[None, :]  # (1, k), all above zero
        self.error = float(np.linalg.norm(vector - steps * np.float32(self.step)))


class Codes:
    """Voices `(n, k)` of length one in whole steps of each one's largest value, and how far the
    farthest is from itself; transposed."""

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
        """The codes of `voices (n, k)` in these rows."""
        steps = np.abs(voices).max(axis=1) / np.float32(_VOICE_STEPS)  # (n,)
        codes = np.rint(voices / np.maximum(steps, np.float32(1e-12))[:, None])  # (n, k)
        errors = np.linalg.norm(voices - codes * steps[:, None], axis=1)  # (n,)
        self._codes[:, rows] = codes.T.astype(np.int8)
        self._steps[rows] = steps
        self._shifts[rows] = _QUERY_STEPS * codes.sum(axis=1)
        self._error = max(self._error, float(errors.max()))

    def products(self, query: Query) -> Vector:
        """Cosines `(n,)`, each within `error(query)` of the exact one."""
        (products,) = _products().run(None, {"a": query.codes, "b": self._codes})
        cosines: Vector = products[0].astype(np.float32)  # whole numbers below 2 ** 24
        cosines -= self._shifts
        cosines *= self._steps
        cosines *= np.float32(query.step)
        return cosines

    def error(self, query: Query) -> float:
        """|x·q - x'·q'| <= |x||q - q'| + |x - x'||q'|, and |x| and |q| are at most 1."""
        return query.error + self._error * (1 + query.error)


class _Block:
    """Voices `(rows, k)`, and their codes once all rows are taken."""

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

    def cosines(self, query: Query, used: int) -> Vector:
        """Of the first `used` rows."""
        if self.codes is not None:
            return self.codes.products(query)
        cosines: Vector = self.voices[:used] @ query.vector
        return cosines

    def clear_last(self, row: int) -> None:
        """Overwrites the last row taken."""
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
        self._most_gain = 0.0

    def __len__(self) -> int:
        return len(self._slots)

    def put(
        self, slot: int, speaker_id: str, voice: Vector, log_speech: float, scale: Scale = HALF
    ) -> None:
        """Adds a voice `(dimension,)`, or changes the one in that slot."""
        row = self._rows.setdefault(slot, len(self))
        if row == len(self):
            self._slots.append(slot)
            self._speaker_ids.append(speaker_id)
            if row == len(self._blocks) * self._block_rows:
                self._blocks.append(_Block(self._block_rows, self._dimension))
        self._speaker_ids[row] = speaker_id
        least, most = self._log_speech
        self._log_speech = (min(least, log_speech), max(most, log_speech))
        self._most_gain = max(self._most_gain, scale.gain)
        block, within = divmod(row, self._block_rows)
        self._blocks[block].put(within, voice, log_speech, scale)

    def drop(self, slot: int) -> None:
        """Forgets the voice in that slot, if there is one; the last one takes its place."""
        if slot not in self._rows:
            return
        last, within = divmod(len(self) - 1, self._block_rows)
        block = self._blocks[last]
        if slot != self._slots[-1]:
            self._rows[self._slots[-1]] = self._rows[slot]
            self._slots[self._rows[slot]] = self._slots[-1]
            traits = block.traits.at(within)
            self.put(self._slots[-1], self._speaker_ids[-1], block.voices[within], *traits)
        block.clear_last(within)
        if within == 0:
            self._blocks.pop()
        del self._rows[slot], self._slots[-1], self._speaker_ids[-1]

    def best(self, query: Vector, ranking: Ranking, count: int) -> list[Hit]:
        """Up to `count` voices by falling log-likelihood ratio against `query (dimension,)`, of
        length one."""
        rows = self._possible(Query(query), ranking, count)
        voices, traits = self._gathered(rows)
        cosines = voices @ query
        llrs = ranking.llrs(cosines, traits)
        return [
            Hit(self._speaker_ids[rows[at]], float(cosines[at]), float(llrs[at]))
            for at in highest(llrs, count)
        ]

    def _possible(self, query: Query, ranking: Ranking, count: int) -> NDArray[np.intp]:
        """The rows of all voices that may be among the best."""
        llrs = np.empty(len(self), np.float32)
        error = 0.0
        for number, block in enumerate(self._blocks):
            here = llrs[number * self._block_rows : (number + 1) * self._block_rows]
            cosines = block.cosines(query, here.size)
            here[:] = ranking.llrs(cosines, block.traits[: here.size])
            error = max(error, block.codes.error(query) if block.codes else 0.0)
        margin = 2 * error * ranking.steepest(self._log_speech, self._most_gain) + _ROUNDING
        peaks = np.maximum.reduceat(llrs, np.arange(0, llrs.size, _STRIDE))
        rows = np.flatnonzero(llrs >= _least(peaks, count) - margin)
        return rows[llrs[rows] >= _least(llrs[rows], count) - margin]

    def _gathered(self, rows: NDArray[np.intp]) -> tuple[Vector, Traits]:
        """The voices `(n, dimension)` in these rows, and their traits."""
        voices = np.empty((rows.size, self._dimension), np.float32)
        traits = Traits(np.empty((3, rows.size), np.float32))
        for number in np.unique(rows // self._block_rows):
            at = rows // self._block_rows == number
            block, within = self._blocks[number], rows[at] % self._block_rows
            voices[at] = block.voices[within]
            traits.values[:, at] = block.traits.values[:, within]
        return voices, traits


def highest(scores: Vector, count: int) -> NDArray[np.intp]:
    """The indices of the `count` highest of `scores (n,)`, the highest first."""
    if count < scores.size:
        top = np.argpartition(scores, scores.size - count)[scores.size - count :]
    else:
        top = np.arange(scores.size)
    return top[np.argsort(-scores[top], kind="stable")]


def _least(scores: Vector, count: int) -> float:
    """The lowest of the `count` highest of `scores (n,)`."""
    if count >= scores.size:
        return -math.inf
    return float(np.partition(scores, scores.size - count)[scores.size - count])


@functools.cache
def _products() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(PRODUCTS, options, providers=["CPUExecutionProvider"])
