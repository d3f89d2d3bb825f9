"""Batch statistics over the batches of all processes, on any backend, and over groups of a batch."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from dim import distributed


class UnionBatchNorm(_BatchNorm):
    """Batch norm over the union of the processes' equal batches: one collective on the way there, one back.

    torch's SyncBatchNorm does the same on CUDA and refuses other devices.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm needs at least 2 dimensions, got {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        kind, input = input.dtype, input.to(torch.promote_types(input.dtype, torch.float32))
        normalised, mean, variance = _Normalise.apply(input, self.weight, self.bias, self.eps)
        count = input.numel() // input.shape[1] * distributed.size()
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        return normalised.to(kind)


class _Normalise(torch.autograd.Function):
    """(N, C, ...), gain and shift (C,) -> the same shape, and mean and variance of all processes' inputs (C,).

    Written out because autograd takes twice as many passes over the inputs for the same gradients.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, gain: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        axes, shape = _layout(input)
        own = input.mean(axes)
        centred = input - own.view(shape)
        # Of equal batches, the union's variance is that within plus that between.
        means, variances = distributed.gather(torch.stack([own, centred.square().mean(axes)])[None]).unbind(1)
        mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, own - mean, scale, gain)
        ctx.mark_non_differentiable(mean, variance)
        slope = scale * gain
        offset = (own - mean) * slope + shift
        return torch.addcmul(offset.view(shape), centred, slope.view(shape)), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, offset, scale, gain = ctx.saved_tensors
        axes, shape = _layout(centred)
        for_shift = gradient.sum(axes)
        for_gain = ((gradient * centred).sum(axes) + offset * for_shift) * scale
        # Inputs of every process moved the mean and the variance that this one's outputs were made with.
        along_shift, along_gain = distributed.total(torch.stack([for_shift, for_gain])) / (
            centred.numel() // centred.shape[1] * distributed.size()
        )
        slope = scale * gain
        along = along_gain * scale  # of the centred input
        constant = (along_shift + along * offset) * slope
        result = torch.addcmul(-constant.view(shape), gradient, slope.view(shape))
        return result.addcmul_(centred, -(along * slope).view(shape)), for_gain, for_shift, None


def _layout(input: Tensor) -> tuple[list[int], list[int]]:
    """The axes that statistics are taken over, and the shape of statistics beside the input."""
    return [axis for axis in range(input.ndim) if axis != 1], [1, -1] + [1] * (input.ndim - 2)


def use_union_statistics(module: nn.Module, cuda: bool) -> nn.Module:
    """Replaces every batch norm inside `module`; parameters, buffers and state dict stay the same."""
    if cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            union = UnionBatchNorm(child.num_features, child.eps, child.momentum)
            union.weight, union.bias = child.weight, child.bias
            union.running_mean, union.running_var = child.running_mean, child.running_var
            union.num_batches_tracked = child.num_batches_tracked
            union.train(child.training)
            setattr(module, name, union)
        else:
            use_union_statistics(child, cuda)
    return module


@contextlib.contextmanager
def in_groups(module: nn.Module, images: int, size: int) -> Iterator[None]:
    """For a while, batch norms inside `module` take their statistics from `size` images at a time (of each process).

    Ghost batches (Hoffer et al. 2017): the same as a pass for each group, but with products of the whole batch. The
    running statistics count each group.

    Args:
        images: how many are encoded meanwhile; a norm may see several rows of each, as of an image's crops.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]

    def grouped(norm: _BatchNorm, input: Tensor) -> Tensor:
        groups = input.split(size * (len(input) // images))
        return torch.cat([type(norm).forward(norm, group) for group in groups])

    for norm in norms:
        norm.forward = functools.partial(grouped, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward
