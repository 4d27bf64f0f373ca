"""Several processes as one: torchrun's ranks, each with its share of every batch.

share of the batch ─ encoder ─> embeddings ─ join ─> all of the batch, on every rank ─> loss
parameters <─ average_gradients ─ backward, through join to the rank that a row came from

Alone, a process is rank 0 of 1 and nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from training.errors import ConfigError

Made = TypeVar("Made")


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, world: int) -> Tensor:
        ctx.first, ctx.count = rank * len(rows), len(rows)
        parts = [torch.empty_like(rows) for _ in range(world)]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total.narrow(0, ctx.first, ctx.count), None, None


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `world`; all of them call the same methods in the same order.

    The gradient through `join` is the sum over the ranks' losses. Averaged over ranks, parameters
    therefore get the gradient of the mean of the ranks' losses: that of the one loss, where every
    rank computes the same loss of all rows, as that of one process with the whole batch.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, total: int) -> slice:
        """This rank's part of so many rows, in order of rank; ConfigError if they do not divide
        evenly."""
        if total % self.world:
            raise ConfigError(
                f"a batch of {total} does not divide among {self.world} processes: "
                "change sampling.speakers"
            )
        count = total // self.world
        return slice(self.rank * count, (self.rank + 1) * count)

    def join(self, rows: Tensor) -> Tensor:
        """(n, ...) of each rank -> (world * n, ...) in order of rank, with gradients."""
        if self.world == 1:
            return rows
        return cast("Tensor", _Join.apply(rows.contiguous(), self.rank, self.world))  # type: ignore[no-untyped-call]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average in place; a parameter has a gradient on every rank or on none."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        total = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(total)
        parts = torch.split(total / self.world, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def from_first(self, make: Callable[[], Made]) -> Made:
        """Call `make` on rank 0 alone and return its result on every rank."""
        box = [make() if self.first else None]
        if self.world > 1:
            distributed.broadcast_object_list(box)
        return cast("Made", box[0])


ALONE = Ranks()


@contextmanager
def join_torchrun(environ: Mapping[str, str]) -> Iterator[Ranks]:
    """The ranks that torchrun started, connected while in this context; without torchrun, one
    alone."""
    if int(environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
