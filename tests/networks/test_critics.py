import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dim.networks import critics
from dim.networks.critics import GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic

N, Y = 6, 16
SHAPES = {"local": (12, 8, 8), "conv": (20, 4, 4)}
ALL = [GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic]


def build(cls):
    torch.manual_seed(0)
    critic = cls(SHAPES, Y, 32).double()
    maps = torch.randn(N, *SHAPES[critic.source], dtype=torch.float64)
    return critic, torch.randn(N, Y, dtype=torch.float64), maps


def drifted(critic):
    """The gains and shifts of the local dot critic as long trainings with infoNCE leave them."""
    with torch.no_grad():
        critic.map_block.norm.weight.fill_(0.03)
        critic.map_block.norm.bias.copy_(2 * torch.randn(32, generator=torch.Generator().manual_seed(1)))
        critic.code_block.norm.weight.fill_(6.0)
    return critic


@pytest.mark.parametrize("cls", ALL)
def test_all_pairs_are_the_single_pairs(cls):
    critic, y, maps = build(cls)
    if cls is LocalDotCritic:
        drifted(critic)
    queries, keys = critic.queries(y), critic.keys(maps)
    scores = critic.scores(queries, keys)
    assert scores.shape == (N, N, 64 if critic.source == "local" and "Local" in cls.__name__ else 1)
    single = torch.stack([torch.stack([critic.pairs(q[None], k) for k in keys]) for q in queries])
    torch.testing.assert_close(scores, single)


@pytest.mark.parametrize("cls", [GlobalConcatCritic, LocalConcatCritic])
def test_split_first_layer_is_the_concatenation(cls):
    critic, y, maps = build(cls)
    rows = maps.permute(0, 2, 3, 1).flatten(1, 2) if cls is LocalConcatCritic else maps.flatten(1)[:, None]
    joined = torch.cat([rows[2], y[4].expand(len(rows[2]), -1)], 1)
    hidden = critic.second(critic.first(joined).relu()).relu()
    expected = critic.last(hidden).squeeze(1)
    torch.testing.assert_close(critic.scores(critic.queries(y), critic.keys(maps))[4, 2], expected)


def test_the_encode_block_is_its_definition():
    critic, _, maps = build(LocalDotCritic)
    drifted(critic)
    block, rows = critic.map_block, maps.permute(0, 2, 3, 1).flatten(1, 2)
    hidden = rows.flatten(0, 1) @ block.expand.weight.T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + block.bn.eps).sqrt()
    out = (
        hidden.clamp(min=0) @ block.project.weight.T + block.project.bias + rows.flatten(0, 1) @ block.shortcut.weight.T
    )
    out = (out - out.mean(1, keepdim=True)) / (out.var(1, unbiased=False, keepdim=True) + block.norm.eps).sqrt()
    expected = (out * block.norm.weight + block.norm.bias).view(N, 64, -1)
    torch.testing.assert_close(block(rows), expected)
    torch.testing.assert_close(critic.keys(maps), expected - block.norm.bias)


@pytest.mark.parametrize("cls", [GlobalConcatCritic, LocalConcatCritic])
def test_chunks_change_neither_scores_nor_gradients(cls, monkeypatch):
    results = []
    for chunk in (1 << 16, 7):
        monkeypatch.setattr(critics, "CHUNK", chunk)
        critic, y, maps = build(cls)
        scores = critic.scores(critic.queries(y.requires_grad_()), critic.keys(maps))
        scores.sin().sum().backward()
        results.append((scores.detach(), y.grad, critic.first.weight.grad, critic.last.weight.grad))
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(whole, chunked)


def test_the_global_dot_critic_is_the_authors():
    critic = GlobalDotCritic({"local": (128, 8, 8)}, 64, 2048)
    convs = [layer for layer in critic.convs.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size, c.stride) for c in convs] == [
        (128, 128, (4, 4), (2, 2)),
        (128, 256, (4, 4), (2, 2)),
    ]
    lines = [tuple(m.weight.shape) for m in critic.head.modules() if isinstance(m, torch.nn.Linear)]
    assert lines == [(1024, 1024), (2048, 1024)]
    assert tuple(critic.code.weight.shape) == (2048, 64)


def test_encode_block_starts_near_the_identity_and_normalises():
    block = critics.EncodeBlock(8, 32)
    weight = block.shortcut.weight
    assert weight.diagonal().eq(1).all()
    off = weight[~torch.eye(32, 8, dtype=torch.bool)]
    assert off.abs().max() <= 0.01
    assert off.abs().max() > 0
    out = block(torch.randn(5, 7, 8))
    assert out.shape == (5, 7, 32)
    torch.testing.assert_close(out.mean(-1), torch.zeros(5, 7), atol=1e-5, rtol=0)


def test_scores_start_with_the_spread_that_was_asked_for():
    shapes = {"local": (128, 8, 8)}
    torch.manual_seed(0)
    y, maps = torch.randn(50, 64), torch.randn(50, *shapes["local"])
    scores = {}
    for spread in (None, 0.5, 3.0):
        torch.manual_seed(0)
        critic = LocalDotCritic(shapes, 64, 256, spread)
        scores[spread] = critic.scores(critic.queries(y), critic.keys(maps))
        assert scores[spread].std().item() == pytest.approx(spread or 256**0.5, rel=0.3)
    torch.testing.assert_close(6 * scores[0.5], scores[3.0])


def test_scores_are_the_products_of_whole_keys():
    critic, y, maps = build(LocalDotCritic)
    drifted(critic)
    keys = critic.map_block(maps.permute(0, 2, 3, 1).flatten(1, 2))
    expected = torch.einsum("iu,jlu->ijl", critic.code_block(y), keys)
    queries = critic.queries(y)
    torch.testing.assert_close(critic.scores(queries, critic.keys(maps)), expected)
    found = torch.autograd.grad(critic.scores(queries, critic.keys(maps)).sin().sum(), critic.parameters())
    whole = torch.einsum("iu,jlu->ijl", critic.code_block(y), critic.map_block(maps.permute(0, 2, 3, 1).flatten(1, 2)))
    for one, other in zip(found, torch.autograd.grad(whole.sin().sum(), critic.parameters()), strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_of_scores_is_not_copied():
    critic, y, maps = build(LocalDotCritic)
    scores = critic.scores(critic.queries(y), critic.keys(maps))
    gradient = torch.randn(scores.shape, dtype=scores.dtype)
    made = []

    class Made(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.data_ptr() != gradient.data_ptr():
                made.append(result.numel())
            return result

    with Made():
        scores.backward(gradient)
    assert made
    assert scores.numel() not in made


def test_a_large_shift_does_not_round_away_what_tells_keys_apart():
    critic, y, maps = build(LocalDotCritic)
    drifted(critic)
    exact = critic.scores(critic.queries(y), critic.keys(maps))
    critic.float()
    with torch.autocast("cpu", torch.bfloat16):
        queries = critic.queries(y.float())
        rounded = critic.scores(queries, critic.keys(maps.float()))
        whole = queries @ critic.map_block(maps.float().permute(0, 2, 3, 1).flatten(1, 2)).flatten(0, 1).T
    assert rounded.dtype == torch.float32

    def error(scores):  # of the differences between keys, in units of their deviation
        told_apart = exact - exact.mean((1, 2), keepdim=True)
        scores = scores.double() - scores.double().mean((1, 2), keepdim=True)
        return ((scores - told_apart).std() / told_apart.std()).item()

    assert error(rounded) < 0.02
    assert error(whole.view_as(rounded)) > 0.1


def test_paper_sizes():
    shapes = {"local": (128, 8, 8), "conv": (256, 4, 4)}

    def count(cls, size):
        return sum(p.numel() for p in cls(shapes, 64, size).parameters())

    assert count(GlobalConcatCritic, 512) == (4096 + 64) * 512 + 512 + 512 * 512 + 512 + 513
    assert count(LocalConcatCritic, 512) == (128 + 64) * 512 + 512 + 512 * 512 + 512 + 513
    u = 2048
    assert count(LocalDotCritic, u) == sum(n * u * 2 + 2 * u + u * u + u + 2 * u for n in (128, 64))
