"""Statistics networks T(x, z): x is embedded once and scored against any number of z."""

import itertools

import torch
from torch import Tensor, nn


def perceptron(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class StatisticsNetwork(nn.Module):
    """T(x, z) of an embedded x and a vector z, joined and passed through a perceptron to a score.

    Args:
        embed: maps a batch of x to vectors (N, features).
        features: their size.
        z_size: size of z.
        widths: hidden widths of the perceptron.
    """

    def __init__(self, embed: nn.Module, features: int, z_size: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.embed = embed
        self.joint = perceptron((features + z_size, *widths, 1))

    def forward(self, embedded: Tensor, z: Tensor) -> Tensor:
        """Scores (N,) of embedded x (N, features) with z (N, Z), pair by pair."""
        return self.joint(torch.cat([embedded, z], 1)).squeeze(1)


def vector_network(x_size: int, z_size: int, widths: tuple[int, ...]) -> StatisticsNetwork:
    """For vectors x: the perceptron sees x itself."""
    return StatisticsNetwork(nn.Flatten(), x_size, z_size, widths)


def image_network(image_size: int, z_size: int, channels: int = 3) -> StatisticsNetwork:
    """For images (N, 3, S, S): the lab's MINE, 4x4 convolutions 64-128-256 to 256, joined with z -> 512 -> 128 -> 1."""
    convs: list[nn.Module] = []
    for a, b in itertools.pairwise((channels, 64, 128, 256)):
        convs += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
    side = image_size // 8
    embed = nn.Sequential(*convs, nn.Flatten(), nn.Linear(256 * side * side, 256), nn.ReLU())
    return StatisticsNetwork(embed, 256, z_size, (512, 128))
