"""Statistics networks T(x, z): each x and each z is embedded once, then scored in any pairing."""

import itertools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from dim.networks.discriminators import image_embedding

CriticName = Literal["concat", "separable"]
PAIRS_AT_ONCE = 1 << 10
"""Pairs that a concatenation critic scores in one go: what of them a processor's cache holds."""
PAIRS_KEPT = 1 << 14
"""Pairs whose activations are kept for the gradient; those of more pairs are computed again."""


def perceptron(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class StatisticsNetwork(nn.Module):
    """Base of critics between x and a vector z; a row is one z and the x it is scored with."""

    def queries(self, z: Tensor) -> Tensor:
        """z (N, Z) -> (N, U)."""
        raise NotImplementedError

    def keys(self, x: Tensor) -> Tensor:
        """x (M, ...) -> (M, U)."""
        raise NotImplementedError

    def rows(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores of query i with keys i, i + 1 ... i + K: (N, U) and (N + K, U) -> (N, 1 + K)."""
        raise NotImplementedError

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Scores (N,) of pairs."""
        return self.rows(self.queries(z), self.keys(x)).squeeze(1)


class ConcatNetwork(StatisticsNetwork):
    """A perceptron on x, or on features of it, joined with z (MINE's).

    The first layer is linear, so that it is applied to each side on its own and once, not to each pair.

    Args:
        embed: maps a batch of x to vectors (M, features).
        features: their size.
        z_size: size of z.
        widths: hidden widths of the perceptron.
    """

    def __init__(self, embed: nn.Module, features: int, z_size: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.embed, self.features = embed, features
        self.joint = nn.Linear(features + z_size, widths[0])
        self.rest = nn.Sequential(nn.ReLU(inplace=True), *perceptron((*widths, 1)))

    def queries(self, z: Tensor) -> Tensor:
        return linear(z, self.joint.weight[:, self.features :], self.joint.bias)

    def keys(self, x: Tensor) -> Tensor:
        return linear(self.embed(x), self.joint.weight[:, : self.features])

    def _block(self, queries: Tensor, keys: Tensor) -> Tensor:
        n, count = len(queries), len(keys) - len(queries) + 1
        if torch.is_grad_enabled():
            # Sums of slices: the backward pass of `unfold`, or of an index, is several times slower.
            joint = torch.stack([queries + keys[k : k + n] for k in range(count)], 1)  # (N, 1 + K, U)
        else:
            joint = queries[:, None] + keys.unfold(0, count, 1).transpose(1, 2)
        return self.rest(joint).squeeze(-1)

    def rows(self, queries: Tensor, keys: Tensor) -> Tensor:
        negatives = len(keys) - len(queries)
        size = max(1, PAIRS_AT_ONCE // (1 + negatives))
        again = torch.is_grad_enabled() and len(queries) * (1 + negatives) > PAIRS_KEPT
        scores = []
        for start in range(0, len(queries), size):
            block = queries[start : start + size]
            window = keys[start : start + len(block) + negatives]
            if again:
                scores.append(checkpoint(self._block, block, window, use_reentrant=False))
            else:
                scores.append(self._block(block, window))
        return torch.cat(scores)


class SeparableNetwork(StatisticsNetwork):
    """Dot product of an embedded x and an embedded z: all pairs of a batch cost one multiplication of matrices.

    Args:
        x_network: maps x to (M, U).
        z_network: maps z to (N, U).
    """

    def __init__(self, x_network: nn.Module, z_network: nn.Module) -> None:
        super().__init__()
        self.x_network, self.z_network = x_network, z_network

    def queries(self, z: Tensor) -> Tensor:
        return self.z_network(z)

    def keys(self, x: Tensor) -> Tensor:
        return self.x_network(x)

    def rows(self, queries: Tensor, keys: Tensor) -> Tensor:
        n, negatives = len(queries), len(keys) - len(queries)
        if not negatives:
            return (queries * keys).sum(1, keepdim=True)
        # Row i of a band of the table of all pairs starts one entry further right than row i - 1.
        size = max(64, negatives)
        blocks = [(queries[a : a + size], keys[a : min(a + size, n) + negatives]) for a in range(0, n, size)]
        tables = [block @ window.T for block, window in blocks]
        return torch.cat([t.as_strided((len(t), 1 + negatives), (t.shape[1] + 1, 1)) for t in tables])


def statistics_network(
    critic: CriticName,
    x_shape: tuple[int, ...],
    z_size: int,
    widths: tuple[int, ...],
    units: int,
) -> StatisticsNetwork:
    """A critic for vectors x (D,) or images (C, S, S).

    Args:
        widths: hidden widths of the perceptrons on vectors; with images the joint one is the lab's, 512-128.
        units: size of the embeddings of a separable critic.
    """
    image = len(x_shape) == 3
    if critic == "concat":
        if image:
            return ConcatNetwork(image_embedding(x_shape[1], x_shape[0]), 256, z_size, (512, 128))
        return ConcatNetwork(nn.Identity(), x_shape[0], z_size, widths)
    x_network = (
        nn.Sequential(image_embedding(x_shape[1], x_shape[0]), nn.Linear(256, units))
        if image
        else perceptron((x_shape[0], *widths, units))
    )
    return SeparableNetwork(x_network, perceptron((z_size, *widths, units)))
