import numpy as np
import pytest
import torch

from dim.errors import UserError
from dim.mine.inputs import Scale, as_pairs, cut


def test_a_cut_keeps_pairs_together_and_uses_each_once():
    x = torch.arange(50.0)[:, None]
    first, rest = cut(x, -x, 0.2, torch.Generator().manual_seed(0))
    assert (len(first[0]), len(rest[0])) == (10, 40)
    assert all(torch.equal(a, -b) for a, b in (first, rest))
    assert torch.cat([first[0], rest[0]]).sort(0).values.equal(x)
    assert not first[0].equal(x[:10])


def test_vectors_are_standardised_and_images_scaled():
    rows = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 5 + 7
    scaled = Scale(rows)(rows)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0), torch.ones(3), atol=1e-5, rtol=0)
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert Scale(images)(images).flatten().tolist() == [-1, 1]


def test_a_feature_that_does_not_vary_stays_finite():
    rows = torch.stack([torch.arange(4.0), torch.full((4,), 1e4)], 1)
    assert Scale(rows)(rows)[:, 1].abs().max() == 0


@pytest.mark.parametrize(
    ("rows", "varies"),
    [
        (1e9 + torch.arange(4, dtype=torch.float64), True),
        (1e9 + torch.arange(4, dtype=torch.float64) * 1e-7, False),
        (10**15 + torch.arange(4), True),
        (1e3 + torch.arange(4) * 1e-4, False),
        (torch.arange(4, dtype=torch.float64) * 1e-20, True),
    ],
)
def test_what_varies_by_more_than_its_type_s_rounding_is_scaled(rows, varies):
    scaled = Scale(rows[:, None])(rows[:, None])
    assert scaled.dtype == torch.float32
    assert float(scaled.std()) == (pytest.approx(1, abs=1e-5) if varies else pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize(
    ("x", "z", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "training x has 2 rows and z 3"),
        ([1.0, float("nan")], [1.0, 2.0], "training x is empty or holds NaN"),
        ([1.0, 2.0], [3.0, 3.0], "training z is constant"),
        ([], [], "training x is empty"),
        (torch.tensor(1.0), [1.0, 2.0], "training x is a single number"),
        ([1.0], [2.0], "training x is one row"),
        (["a", "b"], [1.0, 2.0], "x holds <U1: give numbers"),
        (torch.rand(2, 3, 32, 64), [1.0, 2.0], "images are 32 x 64: they must be square"),
        (torch.rand(2, 3, 16, 16) * 255, [1.0, 2.0], r"images reach beyond \[-1, 1\]"),
        ((torch.rand(2, 3, 16, 16) * 255).long(), [1.0, 2.0], r"images reach beyond \[-1, 1\]: give uint8"),
    ],
)
def test_what_are_no_pairs_is_said(x, z, message):
    with pytest.raises(UserError, match=message):
        as_pairs(x, z, "training")


def test_black_and_white_images_are_taken():
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5
    x, _ = as_pairs(images, [1.0, 2.0, 3.0, 4.0], "training")
    assert Scale(x)(x).unique().tolist() == [0, 1]


def test_arrays_of_any_strides_are_taken():
    x, z = as_pairs(np.arange(6.0)[::-1], np.arange(12.0).reshape(2, 6).T, "training")
    assert x[:, 0].tolist() == [5, 4, 3, 2, 1, 0]
    assert z[1].tolist() == [1, 7]
