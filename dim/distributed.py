"""Collectives; `gather` and `exchange` have an exact backward pass.

A loss that is averaged over processes by DistributedDataParallel comes out right only if what a process gave to
the others brings its gradient back summed over them; an all-gather without a backward divides it by their number.
Without an initialised process group each function is the identity.
"""

import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def leave(status: int, said: str) -> None:
    """Prints `said` and ends this process at once where it would else wait for others to end, too, which do not know.

    At the usual end NCCL waits for a call of all.
    """
    if size() > 1 and dist.get_backend() == "nccl":
        sys.stdout.flush()
        print(said, file=sys.stderr, flush=True)
        os._exit(status)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        ctx.rows = local.shape[0]
        parts = [torch.empty_like(local, memory_format=torch.contiguous_format) for _ in range(size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        start = rank() * ctx.rows
        # Many processes' half-precision numbers are added up in float32.
        summed = total(gradient.to(torch.promote_types(gradient.dtype, torch.float32)))
        return summed[start : start + ctx.rows].to(gradient.dtype)


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blocks: Tensor) -> Tensor:
        received = torch.empty_like(blocks, memory_format=torch.contiguous_format)
        dist.all_to_all_single(received, blocks.contiguous())
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        returned = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        dist.all_to_all_single(returned, gradient.contiguous())
        return returned


def gather(local: Tensor) -> Tensor:
    """(N, ...) of each process -> (W*N, ...), in the order of ranks, on all of them."""
    return _Gather.apply(local) if size() > 1 else local


def exchange(blocks: Tensor) -> Tensor:
    """(W, ...): block r goes to process r; returns (W, ...): block r came from process r."""
    return _Exchange.apply(blocks) if size() > 1 else blocks


def total(local: Tensor) -> Tensor:
    """The sum over processes, on all of them; no gradient goes back through it."""
    if size() == 1:
        return local.detach()
    summed = local.detach().contiguous().clone()
    dist.all_reduce(summed)
    return summed
