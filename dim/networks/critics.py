"""Critics: scores T of (feature map, code) pairs.

A critic embeds each code once as a query and each map once as its keys, one per position, and scores any query
against any key. `dim.contrast` decides which pairs are positives and negatives.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dim.networks.encoders import conv_block, linear_block

Shape = tuple[int, ...]


class Critic(nn.Module):
    """Base of all critics.

    Attributes:
        source: the encoder output that is scored against the code.
        separable: whether all pairs cost one multiplication of matrices.
    """

    source: str
    separable = False

    def queries(self, y: Tensor) -> Tensor:
        """Codes (N, Y) -> (N, U)."""
        raise NotImplementedError

    def keys(self, maps: Tensor) -> Tensor:
        """Maps of M images -> (M, L, U): one key per position; L = 1 for a global critic."""
        raise NotImplementedError

    def pairs(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores of aligned pairs: (..., U) and (..., U), broadcast against each other -> (...)."""
        raise NotImplementedError

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores of all pairs: (N, U) and (M, L, U) -> (N, M, L)."""
        raise NotImplementedError


class _DotCritic(Critic):
    """Score = plain dot product of query and key, no temperature."""

    separable = True

    def pairs(self, queries: Tensor, keys: Tensor) -> Tensor:
        return (queries * keys).sum(-1)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self._table(queries, keys.flatten(0, 1)).view(len(queries), *keys.shape[:2])

    def _table(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(N, U) and (K, U) -> (N, K)."""
        return queries @ keys.T


class EncodeBlock(nn.Module):
    """The encode-and-dot block on rows of features (..., n) -> (..., U) (section 3.2; figure 8).

    LayerNorm(linear(n -> U) -> batch norm -> ReLU -> linear(U -> U)  +  linear shortcut(n -> U)), which is the
    paper's stack of 1x1 convolutions with positions as rows. The shortcut starts near the identity.

    Args:
        gain: what the layer norm's gains start at.
    """

    def __init__(self, features: int, units: int, gain: float = 1.0) -> None:
        super().__init__()
        self.expand = nn.Linear(features, units, bias=False)
        self.bn = nn.BatchNorm1d(units)
        self.project = nn.Linear(units, units)
        self.shortcut = nn.Linear(features, units, bias=False)
        self.norm = nn.LayerNorm(units)
        nn.init.constant_(self.norm.weight, gain)
        nn.init.uniform_(self.shortcut.weight, -0.01, 0.01)
        with torch.no_grad():
            self.shortcut.weight.diagonal().fill_(1.0)

    def forward(self, rows: Tensor, shifted: bool = True) -> Tensor:
        """Rows (..., n) -> (..., U); `shifted=False` leaves out the layer norm's shift."""
        flat = rows.reshape(-1, rows.shape[-1])
        hidden = functional.relu(self.bn(self.expand(flat)), inplace=True)
        out, norm = self.project(hidden).add_(self.shortcut(flat)), self.norm
        out = functional.layer_norm(out, norm.normalized_shape, norm.weight, norm.bias if shifted else None, norm.eps)
        return out.view(*rows.shape[:-1], -1)


class LocalDotCritic(_DotCritic):
    """Local, encode-and-dot: one EncodeBlock for the map's positions and one for the code (table 1).

    The shift of the positions' layer norm, the same for all keys, adds one number to all scores of a code:
    <query, key + shift> = <query, key> + <query, shift>. That number is added in float32. infoNCE does not feel it, so
    that nothing holds the shift back while it drifts: a key that held both would lose much of what tells it from
    others when rounded to bfloat16.

    Args:
        spread: standard deviation of the scores of unrelated pairs at the start, set by the gains of the layer norms;
            None leaves these at 1, which makes it sqrt(units): a softmax over such scores begins saturated.
    """

    source = "local"

    def __init__(self, shapes: dict[str, Shape], code_size: int, units: int, spread: float | None = None) -> None:
        super().__init__()
        # Two normalised rows of U numbers have a dot product of variance U.
        gain = 1.0 if spread is None else math.sqrt(spread / math.sqrt(units))
        self.map_block = EncodeBlock(shapes["local"][0], units, gain)
        self.code_block = EncodeBlock(code_size, units, gain)

    def queries(self, y: Tensor) -> Tensor:
        return self.code_block(y)

    def keys(self, maps: Tensor) -> Tensor:
        # A channels_last map is already (M, H, W, C) in memory, so that this is a view.
        return self.map_block(maps.permute(0, 2, 3, 1).flatten(1, 2), shifted=False)

    def pairs(self, queries: Tensor, keys: Tensor) -> Tensor:
        return super().pairs(queries, keys) + self._shift(queries)

    def _table(self, queries: Tensor, keys: Tensor) -> Tensor:
        shift = self._shift(queries)[:, None]
        # In place, since it is the largest array of a step, and before it is seen under another shape: autograd copies
        # the gradient of what is changed through a view several times.
        return super()._table(queries, keys).to(shift.dtype).add_(shift)

    def _shift(self, queries: Tensor) -> Tensor:
        """(..., U) -> (...): what the keys' shift adds to the scores of each code, in float32 at least."""
        dtype = torch.promote_types(queries.dtype, torch.float32)
        return (queries.to(dtype) * self.map_block.norm.bias.to(dtype)).sum(-1)


class GlobalDotCritic(_DotCritic):
    """Global, encode-and-dot, as in the authors' code: convolutions on the local map, one linear layer on the code."""

    source = "local"

    def __init__(self, shapes: dict[str, Shape], code_size: int, units: int) -> None:
        super().__init__()
        channels, height, width = shapes["local"]
        self.convs = nn.Sequential(conv_block(channels, 128), conv_block(128, 256))
        features = 256 * (height // 4) * (width // 4)
        self.head = nn.Sequential(linear_block(features, 1024), nn.Linear(1024, units))
        self.code = nn.Linear(code_size, units)

    def queries(self, y: Tensor) -> Tensor:
        return self.code(y)

    def keys(self, maps: Tensor) -> Tensor:
        return self.head(self.convs(maps).flatten(1))[:, None]


CHUNK = 1 << 16
"""Pairs that a concatenation critic scores at a time; more are recomputed in the backward pass, chunk by chunk."""


class _ConcatCritic(Critic):
    """concat(features, y) -> width ReLU -> width ReLU -> 1, without batch norm.

    The first layer splits exactly, W [c; y] + b = (W_c c + b) + W_y y, so that keys and queries are its two halves
    and a pair costs one addition and the remaining layers.
    """

    def __init__(self, features: int, code_size: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(features + code_size, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 1)
        self.features = features

    def queries(self, y: Tensor) -> Tensor:
        return functional.linear(y, self.first.weight[:, self.features :])

    def _keys(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.first.weight[:, : self.features], self.first.bias)

    def _pairs(self, queries: Tensor, keys: Tensor) -> Tensor:
        hidden = functional.relu(self.second(functional.relu(queries + keys, inplace=True)), inplace=True)
        return self.last(hidden).squeeze(-1)

    def pairs(self, queries: Tensor, keys: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(queries.shape[:-1], keys.shape[:-1])
        rows = max(1, CHUNK * shape[0] // math.prod(shape))
        if rows >= shape[0]:
            return self._pairs(queries, keys)
        chunks = zip(*(side.expand(shape[0], *side.shape[1:]).split(rows) for side in (queries, keys)), strict=True)
        recomputed = partial(checkpoint, self._pairs, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([recomputed(*chunk) for chunk in chunks])

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self.pairs(queries[:, None, None], keys[None])


class LocalConcatCritic(_ConcatCritic):
    """Local, concatenate-and-convolve: the code beside the features of each position, 1x1 convolutions (figure 7)."""

    source = "local"

    def __init__(self, shapes: dict[str, Shape], code_size: int, width: int) -> None:
        super().__init__(shapes["local"][0], code_size, width)

    def keys(self, maps: Tensor) -> Tensor:
        return self._keys(maps.permute(0, 2, 3, 1).flatten(1, 2))


class GlobalConcatCritic(_ConcatCritic):
    """Global, concatenation: the flattened last map beside the code (figure 5)."""

    source = "conv"

    def __init__(self, shapes: dict[str, Shape], code_size: int, width: int) -> None:
        channels, height, width_of_map = shapes["conv"]
        super().__init__(channels * height * width_of_map, code_size, width)

    def keys(self, maps: Tensor) -> Tensor:
        return self._keys(maps.flatten(1))[:, None]
