"""What every framework is to the training loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data.batches import Batch
from training.encoders import SpeakerEncoder


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step's scalar loss and its detached parts by name.

    `compared` are the embeddings that were compared, (count, dim), and their labels (count,), if
    any.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    compared: tuple[Tensor, Tensor] | None = None


class Framework(nn.Module):
    """The way from a batch to a loss: what is compared with what.

    Its parameters are trained with the encoder's, and its state goes into the checkpoint.
    """

    def begin(self, encoder: SpeakerEncoder) -> None:
        """Called once the encoder has the weights that training begins with."""

    def step(self, encoder: SpeakerEncoder, batch: Batch) -> Outcome:
        raise NotImplementedError

    def after_step(self, encoder: SpeakerEncoder) -> None:
        """Called once the optimizer has changed the encoder."""

    def for_validation(self, encoder: SpeakerEncoder) -> nn.Module:
        """The module that validation measures: waveform (batch, samples) to embedding."""
        return encoder


def mixed_precision(device: torch.device) -> torch.autocast:
    """The encoder computes in bfloat16 on CUDA; losses do not."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
