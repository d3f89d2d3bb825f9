"""A start for a convolution that comes from the images, without labels."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


@torch.no_grad()
def whiten(convolution: nn.Conv2d, maps: Tensor) -> None:
    """Makes the filters the leading principal directions of the patches they see, each with both signs.

    Batch norm, which follows, gives each direction the same variance, so that convolution, norm and ReLU together begin
    as a whitening of patches: neighbouring pixels are so alike that random filters all see their mean, and training
    spends its first epochs on telling directions apart. Filters for which there is no direction of any variance stay as
    they are. The idea is that of quick supervised training on CIFAR (Page 2019, "How to train your ResNet 8: bag of
    tricks").

    Args:
        maps: what the convolution sees, (N, C, H, W), as the encoder's images; a few thousand are enough.
    """
    assert not isinstance(convolution.padding, str)
    kernel = convolution.kernel_size[0], convolution.kernel_size[1]
    count, total, moments = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for part in maps.split(100):  # all patches of thousands of images are gigabytes
        patches = functional.unfold(part, kernel, convolution.dilation, convolution.padding, convolution.stride)
        rows = patches.transpose(1, 2).flatten(0, 1).double()
        count, total, moments = count + len(rows), total + rows.sum(0), moments + rows.T @ rows
    variances, directions = torch.linalg.eigh((moments - total.outer(total) / count) / (count - 1))
    varying = directions[:, variances > 1e-6 * variances[-1]]
    # As long as the filters that PyTorch draws.
    half = varying.T.flip(0)[: len(convolution.weight) // 2] / math.sqrt(3)
    filters = torch.cat([half, -half]).view(-1, *convolution.weight.shape[1:])
    convolution.weight[: len(filters)] = filters.to(convolution.weight)
