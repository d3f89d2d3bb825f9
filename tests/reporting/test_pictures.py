import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from dim.data.dataset import Split
from dim.reporting import pictures

CLASSES = ("cat", "dog")


@pytest.fixture
def split():
    images = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 4, 4)
    return Split(images, torch.arange(12) % 2)


def test_neighbours_stand_in_order_and_are_framed_if_their_class_is_the_query_s(split):
    codes = torch.arange(12.0)[:, None].expand(12, 3)
    made = pictures.neighbours(split, codes, CLASSES, queries=2, count=3)
    shown = [int(axis.get_images()[0].get_array().max()) for axis in made.axes]
    assert shown[:4] == [0, 1, 2, 3]
    assert shown[4] == 1
    assert sorted(shown[5:7]) == [0, 2]
    framed = [to_hex(axis.spines["top"].get_edgecolor()) != "#ffffff" for axis in made.axes]
    assert framed[:4] == [False, False, True, False]
    assert [made.axes[place].get_ylabel() for place in (0, 4)] == ["cat", "dog"]


def test_a_map_has_every_code_in_its_class_s_colour(split):
    (axis,) = pictures.code_map(split, torch.randn(12, 5), CLASSES).axes
    assert [len(points.get_offsets()) for points in axis.collections] == [6, 6]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(CLASSES)


@pytest.mark.parametrize("prior", ["uniform", "gaussian"])
def test_codes_that_follow_the_prior_lie_on_its_line(prior):
    codes = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    if prior == "uniform":
        codes = torch.rand(20_000, 4, generator=torch.Generator().manual_seed(0)).logit()
    (axis,) = pictures.code_histogram(codes, prior).axes
    ours, expected = (line.get_ydata() for line in axis.lines)
    np.testing.assert_allclose(ours, expected, atol=0.06)
    (axis,) = pictures.code_histogram(codes * 3, prior).axes
    ours, expected = (line.get_ydata() for line in axis.lines)
    assert np.abs(ours - expected).max() > 0.1
