"""Stretches of the features hidden while training, so that no band and no moment is relied upon."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Masks(nn.Module):
    """Hides bands of mels and stretches of frames, (batch, mels, frames) in and out.

    SpecAugment without time warping (Park et al., Interspeech 2019): of each mask, the width is
    drawn evenly from 0 to its limit, and its place evenly, for every example anew, from torch's
    global generator. Hidden features are 0, their mean over time. In evaluation, and so in an
    exported graph, nothing is hidden.
    """

    def __init__(self, *, bands: int, band_mels: int, stretches: int, stretch_frames: int) -> None:
        super().__init__()
        self.bands, self.band_mels = bands, band_mels
        self.stretches, self.stretch_frames = stretches, stretch_frames

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return features
        batch, mels, frames = features.shape
        for _ in range(self.bands):
            hidden = _stretch(batch, mels, self.band_mels, features.device)
            features = features.masked_fill(hidden[:, :, None], 0.0)
        for _ in range(self.stretches):
            hidden = _stretch(batch, frames, self.stretch_frames, features.device)
            features = features.masked_fill(hidden[:, None, :], 0.0)
        return features


def _stretch(batch: int, places: int, widest: int, device: torch.device) -> Tensor:
    """(batch, places), True in one drawn run of 0 to `widest` places."""
    width = (torch.rand(batch, 1, device=device) * (min(widest, places) + 1)).floor()
    start = (torch.rand(batch, 1, device=device) * (places - width + 1)).floor()
    place = torch.arange(places, device=device)
    return (place >= start) & (place < start + width)
