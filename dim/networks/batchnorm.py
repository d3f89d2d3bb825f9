"""Batch statistics over the batches of all processes, on any backend."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dim import distributed


class UnionBatchNorm(_BatchNorm):
    """Batch norm over the union of the processes' equal batches, by differentiable all-reduces.

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
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        count = input.numel() // input.shape[1] * distributed.size()
        mean = distributed.total(input.sum(axes)) / count
        centred = input - mean.view(shape)
        variance = distributed.total(centred.square().sum(axes)) / count
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((variance.detach() * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale.view(shape) + self.bias.view(shape)).to(kind)


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
