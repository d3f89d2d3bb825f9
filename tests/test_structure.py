import pytest
import torch

from dim.structure import BLOCK, CoordinateHead, occlude, random_boxes, random_partners


@pytest.mark.parametrize("side", [32, 64])
def test_boxes_hide_a_block_and_leave_one(side):
    block = BLOCK * side // 32
    boxes = random_boxes(4000, torch.Generator().manual_seed(0), side)
    top, left, height, width = boxes.unbind(1)
    assert height.min() == block
    assert width.min() == block
    assert height.max() == side - block
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= side).all()
    assert (left + width <= side).all()
    assert (torch.maximum(top, side - top - height) >= block).all()
    # Both sides are reached: boxes are not tied to an edge.
    assert top.min() == 0
    assert (top + height).max() == side


def test_occlusion_changes_the_box_alone():
    images = torch.rand(2, 3, 32, 32) + 0.5
    hidden = occlude(images, torch.tensor([[0, 1, 10, 12], [20, 4, 12, 28]]))
    expected = images.clone()
    expected[0, :, 0:10, 1:13] = 0
    expected[1, :, 20:32, 4:32] = 0
    assert torch.equal(hidden, expected)


def test_partners_are_permutations():
    partners = random_partners(7, 9, torch.Generator().manual_seed(0))
    assert torch.equal(partners.sort(1).values, torch.arange(9).expand(7, -1))


@pytest.mark.parametrize("relative", [False, True])
def test_coordinates_are_learnt_where_features_tell_them(relative):
    torch.manual_seed(0)
    n, height, width = 8, 4, 3
    position = torch.cat([torch.eye(height).repeat_interleave(width, 0), torch.eye(width).repeat(height, 1)], 1)
    maps = position.T.view(1, height + width, height, width).expand(n, -1, -1, -1)
    y = torch.randn(n, 5)
    head = CoordinateHead(tuple(maps.shape[1:]), 5, 64, relative)
    assert head.classes == ([7, 5] if relative else [4, 3])
    partners = random_partners(n, height * width, torch.Generator().manual_seed(0))
    start, _ = head(y, maps, partners)
    chance = sum(torch.tensor(float(c)).log() for c in head.classes)
    assert float(start) == pytest.approx(float(chance), rel=0.5)
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss, accuracy = head(y, maps, partners)
        loss.backward()
        optimiser.step()
    assert float(accuracy) > 0.95
