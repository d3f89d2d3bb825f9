"""Discriminators between two samples, for prior matching and adversarial baselines."""

import itertools

import torch
from torch import Tensor, nn


class CodeDiscriminator(nn.Sequential):
    """Codes (N, Y) -> scores (N,): linear layers with ReLU, no batch norm.

    The default is DIM's prior discriminator, Y -> 1000 -> 200 -> 1 (appendix A.3).
    """

    def __init__(self, code_size: int, widths: tuple[int, ...] = (1000, 200)) -> None:
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise((code_size, *widths)):
            layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))


def image_embedding(image_size: int, channels: int) -> nn.Sequential:
    """Images (N, channels, S, S) -> (N, 256): 4x4 convolutions of stride 2 of 64, 128 and 256 channels, then 256 units.

    ReLU throughout, no batch norm: what the lab's BiGAN and its MINE have in common.
    """
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((channels, 64, 128, 256)):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
    side = image_size // 8
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * side * side, 256), nn.ReLU())


class JointDiscriminator(nn.Module):
    """Images (N, 3, S, S) and codes (N, Y) -> scores (N,), without batch norm (the lab's BiGAN; that it made
    the tables is not known).

    Image: `image_embedding`; code: Y -> 64 -> 256; joined -> 512 -> 128 -> 1; ReLU throughout (the activation was not
    published).
    """

    def __init__(self, image_size: int, code_size: int) -> None:
        super().__init__()
        self.image = image_embedding(image_size, 3)
        self.code = nn.Sequential(nn.Linear(code_size, 64), nn.ReLU(), nn.Linear(64, 256), nn.ReLU())
        self.joint = nn.Sequential(
            nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 1), nn.Flatten(0)
        )

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        return self.joint(torch.cat([self.image(images), self.code(codes)], 1))
