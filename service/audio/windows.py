"""Windows: speech of any length to equal pieces, whole or as it comes.

The last window is aligned to the end, and speech shorter than one is repeated until it fills it,
so that no window holds padding and every sample is in at least one.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def cut(speech: Samples, *, window_samples: int, hop_samples: int) -> Samples:
    """`speech (n,)` to `(windows, window_samples)`, one every `hop_samples` (at most a window);
    none when there is no speech."""
    windows = WindowAccumulator(window_samples, hop_samples)
    return np.concatenate([windows.push(speech), windows.tail()])


class WindowAccumulator:
    """The windows of speech that arrives in pieces; all pushes and the tail together are `cut` of
    the whole. It holds at most one window and the longest push."""

    def __init__(self, window_samples: int, hop_samples: int) -> None:
        if not 1 <= hop_samples <= window_samples:
            raise ValueError(f"hop {hop_samples} must be in 1..{window_samples}, the window")
        self._window = window_samples
        self._hop = hop_samples
        self._pieces: deque[Samples] = deque()
        self._held = 0  # samples in the pieces
        self._next = 0  # where in them the next window starts

    def push(self, speech: Samples) -> Samples:
        """The windows `(k, window_samples)` that `speech (n,)` completes."""
        if speech.size:
            self._pieces.append(speech)
            self._held += speech.size
        windows = self._none()
        if self._held >= self._next + self._window:
            every = np.lib.stride_tricks.sliding_window_view(self._joined(), self._window)
            windows = every[self._next :: self._hop].copy()
            self._next += len(windows) * self._hop
        self._forget()
        return windows

    def tail(self) -> Samples:
        """The window `(0 or 1, window_samples)` that would end the speech here; changes nothing."""
        if not self._held:
            return self._none()
        if self._held < self._window:
            return np.resize(self._joined(), (1, self._window))
        if self._next - self._hop + self._window == self._held:
            return self._none()
        return self._joined()[np.newaxis, -self._window :]

    def _forget(self) -> None:
        """Drops the pieces that neither the tail nor the next window can reach."""
        while self._pieces and self._held - self._pieces[0].size >= self._window:
            dropped = self._pieces.popleft().size
            self._held -= dropped
            self._next -= dropped

    def _joined(self) -> Samples:
        return np.concatenate(self._pieces)

    def _none(self) -> Samples:
        return np.empty((0, self._window), np.float32)
