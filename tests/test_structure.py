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


def test_boxes_reach_every_place_that_leaves_a_block_visible():
    boxes = random_boxes(60_000, torch.Generator().manual_seed(0), 32)
    for size in range(BLOCK, 32 - BLOCK + 1):
        tops = boxes[boxes[:, 2] == size, 0]
        allowed = {top for top in range(32 - size + 1) if max(top, 32 - top - size) >= BLOCK}
        assert set(tops.tolist()) == allowed
        # Uniform: each place has its share.
        shares = torch.stack([(tops == top).double().mean() for top in allowed])
        assert (shares * len(allowed)).sub(1).abs().max() < 0.35
        assert set(boxes[boxes[:, 3] == size, 1].tolist()) == set(range(32 - size + 1))


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
def test_loss_and_accuracy_are_their_definitions(relative):
    torch.manual_seed(0)
    n, height, width = 3, 4, 2
    y, maps = torch.randn(n, 5).double(), torch.randn(n, 6, height, width).double()
    head = CoordinateHead((6, height, width), 5, 16, relative).double()
    torch.nn.init.normal_(head.logits.weight)
    partners = random_partners(n, height * width, torch.Generator().manual_seed(1))
    rows, goals = [], []
    for image in range(n):
        for place in range(height * width):
            i, j = divmod(place, width)
            k, m = divmod(int(partners[image, place]), width)
            rows.append(torch.cat([y[image], maps[image, :, i, j], *([maps[image, :, k, m]] if relative else [])]))
            goals.append((i - k + height - 1, j - m + width - 1) if relative else (i, j))
    logits = head.logits(head.block(torch.stack(rows)))
    first, second = logits.split(head.classes, 1)
    nats, right = [], []
    for row, (i, j) in enumerate(goals):
        nats.append(-first[row].log_softmax(0)[i] - second[row].log_softmax(0)[j])
        right.append(int(first[row].argmax()) == i and int(second[row].argmax()) == j)
    either = [int(a.argmax()) == i or int(b.argmax()) == j for a, b, (i, j) in zip(first, second, goals, strict=True)]
    assert sum(right) < sum(either)
    loss, accuracy = head(y, maps, partners)
    torch.testing.assert_close(loss, torch.stack(nats).mean())
    assert float(accuracy) == pytest.approx(sum(right) / len(right))


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
