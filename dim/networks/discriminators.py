"""Discriminators between two samples, for prior matching and adversarial baselines."""

import itertools

from torch import nn


class CodeDiscriminator(nn.Sequential):
    """Codes (N, Y) -> scores (N,): linear layers with ReLU, no batch norm.

    The default is DIM's prior discriminator, Y -> 1000 -> 200 -> 1 (appendix A.3).
    """

    def __init__(self, code_size: int, widths: tuple[int, ...] = (1000, 200)) -> None:
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise((code_size, *widths)):
            layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))
