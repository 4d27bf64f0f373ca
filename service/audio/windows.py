"""Windows: cut speech of any length into equal pieces, at once or piece by piece.

The last window ends with the speech, and speech shorter than a window is repeated until it fills
one. So no window holds padding, and every sample is in at least one window.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def cut(speech: Samples, *, window_samples: int, hop_samples: int) -> Samples:
    """Cuts `speech (n,)` to `(windows, window_samples)`, one every `hop_samples`, at most a window;
    no speech gives no windows."""
    windows = WindowAccumulator(window_samples, hop_samples)
    return np.concatenate([windows.push(speech), windows.cut_tail()])


class WindowAccumulator:
    """Cuts windows of speech that arrives in pieces. All pushes and the tail together give what
    `cut` gives of the whole. Keeps at most one window and the longest push."""

    def __init__(self, window_samples: int, hop_samples: int) -> None:
        if not 1 <= hop_samples <= window_samples:
            raise ValueError(f"hop {hop_samples} must be in 1..{window_samples}, the window")
        self._window = window_samples
        self._hop = hop_samples
        self._pieces: deque[Samples] = deque()
        self._buffered = 0  # samples in the pieces
        self._next_start = 0  # where in them the next window starts

    def push(self, speech: Samples) -> Samples:
        """Return the windows `(k, window_samples)` that `speech (n,)` completes."""
        if speech.size:
            self._pieces.append(speech)
            self._buffered += speech.size
        windows = self._no_windows()
        if self._buffered >= self._next_start + self._window:
            every = np.lib.stride_tricks.sliding_window_view(self._concatenate(), self._window)
            windows = every[self._next_start :: self._hop].copy()
            self._next_start += len(windows) * self._hop
        self._drop_old()
        return windows

    def cut_tail(self) -> Samples:
        """Return the window `(0 or 1, window_samples)` that would end the speech here; changes
        nothing."""
        if not self._buffered:
            return self._no_windows()
        if self._buffered < self._window:
            return np.resize(self._concatenate(), (1, self._window))
        if self._next_start - self._hop + self._window == self._buffered:
            return self._no_windows()
        return self._concatenate()[np.newaxis, -self._window :]

    def _drop_old(self) -> None:
        """Drop the pieces that neither the tail nor the next window can reach."""
        while self._pieces and self._buffered - self._pieces[0].size >= self._window:
            dropped = self._pieces.popleft().size
            self._buffered -= dropped
            self._next_start -= dropped

    def _concatenate(self) -> Samples:
        return np.concatenate(self._pieces)

    def _no_windows(self) -> Samples:
        return np.empty((0, self._window), np.float32)
