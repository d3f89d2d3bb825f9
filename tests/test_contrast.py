import pytest
import torch

from dim.contrast import _all_pairs, _shifts, contrast
from dim.networks.critics import GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic

N, Y = 5, 16
SHAPES = {"local": (12, 8, 8), "conv": (20, 4, 4)}
ALL = [GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic]


def build(cls):
    torch.manual_seed(0)
    critic = cls(SHAPES, Y, 32).double()
    maps = torch.randn(N, *SHAPES[critic.source], dtype=torch.float64)
    y = torch.randn(N, Y, dtype=torch.float64)
    return critic, y, maps, critic.scores(critic.queries(y), critic.keys(maps))


@pytest.mark.parametrize("cls", ALL)
def test_positives_are_the_own_image_s_and_negatives_all_others(cls):
    critic, y, maps, pairs = build(cls)
    scores = contrast(critic, y, maps)
    length = pairs.shape[2]
    assert scores.positive.shape == (N, length)
    assert scores.negative.shape == (N, (N - 1) * length)
    for i in range(N):
        torch.testing.assert_close(scores.positive[i], pairs[i, i])
        others = torch.cat([pairs[i, j] for j in range(N) if j != i])
        torch.testing.assert_close(scores.negative[i].sort().values, others.sort().values)


@pytest.mark.parametrize(
    ("rows", "images", "start", "vectors"), [(4, 4, 0, 1), (3, 3, 0, 2), (2, 6, 2, 1), (2, 6, 4, 3), (1, 3, 1, 1)]
)
def test_all_pairs_and_their_gradients_are_those_of_plain_indexing(rows, images, start, vectors):
    """Rows of one process among the images of several, with one or several global vectors an image."""
    torch.manual_seed(0)
    scores = torch.randn(rows * vectors, images, 2, dtype=torch.float64, requires_grad=True)
    own = [start + row // vectors for row in range(rows * vectors)]
    kept = [[image for image in range(images) if image != column] for column in own]
    expected = (
        torch.stack([scores[row, column] for row, column in enumerate(own)]),
        torch.stack([scores[row, columns].flatten() for row, columns in enumerate(kept)]),
    )
    found = _all_pairs(scores, rows, start)
    weights = [torch.randn_like(part) for part in expected]
    for part, right in zip(found, expected, strict=True):
        assert torch.equal(part, right)
    gradients = [
        torch.autograd.grad(sum((w * part.exp()).sum() for w, part in zip(weights, parts, strict=True)), scores)[0]
        for parts in (found, expected)
    ]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(lambda table: _all_pairs(table, rows, start), scores)


@pytest.mark.parametrize("cls", ALL)
def test_drawn_negatives_are_other_images_at_the_same_position_without_repetition(cls):
    critic, y, maps, pairs = build(cls)
    length = pairs.shape[2]
    scores = contrast(critic, y, maps, negatives=3, generator=torch.Generator().manual_seed(1))
    assert scores.positive.shape == (N * length, 1)
    assert scores.negative.shape == (N * length, 3)
    used = torch.zeros(N, length, dtype=torch.int64)
    for row in range(N * length):
        i, position = divmod(row, length)
        torch.testing.assert_close(scores.positive[row, 0], pairs[i, i, position])
        others = [j for j in range(N) if j != i]
        match = torch.isclose(scores.negative[row][:, None], pairs[i, others, position][None], rtol=1e-9, atol=1e-12)
        assert match.sum(1).eq(1).all()
        assert match.sum(0).le(1).all()
        for column in match.int().argmax(1):
            used[others[int(column)], position] += 1
    # As when the batch is permuted at each position: every map position serves equally often.
    assert used.eq(3).all()


@pytest.mark.parametrize("cls", [LocalDotCritic, LocalConcatCritic])
def test_each_of_several_vectors_draws_negatives_for_its_own_image(cls):
    critic, _, maps, _ = build(cls)
    y = torch.randn(N, Y, 1, 2, dtype=torch.float64)
    scores = contrast(critic, y, maps, negatives=2, generator=torch.Generator().manual_seed(1))
    vectors = critic.queries(y.flatten(2).transpose(1, 2).flatten(0, 1))  # two of each image, one after the other
    table = critic.scores(vectors, critic.keys(maps))  # (2 N, N, L)
    length = table.shape[2]
    positive, negative = scores.positive.view(2 * N, length), scores.negative.view(2 * N, length, 2)
    for row in range(2 * N):
        image = row // 2
        torch.testing.assert_close(positive[row], table[row, image])
        others = table[row, [j for j in range(N) if j != image]]  # (N - 1, L)
        match = torch.isclose(negative[row][:, :, None], others.T[:, None, :], rtol=1e-9, atol=1e-12)
        assert match.sum(2).eq(1).all()


def test_every_position_draws_images_of_its_own():
    shifts = _shifts(500, 6, 2, torch.Generator().manual_seed(0))
    assert shifts.shape == (500, 2)
    assert (shifts[:, 0] != shifts[:, 1]).all()
    shares = torch.bincount(shifts.flatten(), minlength=6).double() / 1000
    assert shares[0] == 0
    assert (shares[1:] - 0.2).abs().max() < 0.05  # five deviations of 0.011
    assert len(shifts.unique(dim=0)) == 20


def test_as_many_negatives_as_images_are_refused():
    critic, y, maps, _ = build(LocalDotCritic)
    with pytest.raises(ValueError, match="5 negatives need a batch of more images"):
        contrast(critic, y, maps, negatives=5)


def test_no_negatives_and_maps_of_other_images_are_refused():
    critic, y, maps, _ = build(LocalDotCritic)
    for negatives, of in ((0, maps), (-1, maps), (None, maps[:-1]), (2, torch.cat([maps, maps]))):
        with pytest.raises(ValueError, match="need maps of the codes' images and negatives of 1 or more"):
            contrast(critic, y, of, negatives)


def test_drawing_depends_on_the_generator_alone():
    critic, y, maps, _ = build(LocalConcatCritic)
    drawn = [contrast(critic, y, maps, 2, generator=torch.Generator().manual_seed(s)).negative for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
