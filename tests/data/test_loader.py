import itertools

import pytest
import torch
import torch.distributed as dist
from processes import run_in_processes
from torch.utils.data import DataLoader

from dim.data.dataset import Split
from dim.data.loader import DeviceLoader, normalise
from dim.errors import UserError


def numbered(count):
    """Image i holds i everywhere and has label i % 10."""
    number = torch.arange(count)
    images = number.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    return Split(images, number % 10)


def rows(loader):
    return [batch.indices.tolist() for batch in loader]


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def test_normalise_maps_the_range_to_minus_one_and_one():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    result = normalise(images)
    assert result.dtype == torch.float32
    assert torch.allclose(result[:, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    assert images.max() == 255  # the input is left alone


def test_batches_hold_the_rows_they_name():
    split = numbered(23)
    for batch in DeviceLoader(split, 5, shuffle=True):
        assert torch.equal(batch.images, normalise(split.images[batch.indices]))
        assert torch.equal(batch.labels, split.labels[batch.indices])
        assert batch.indices.dtype == batch.labels.dtype == torch.int64
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_without_shuffling_batches_are_those_of_a_torch_loader():
    split = numbered(23)
    for drop_last in (False, True):
        loader = DeviceLoader(split, 5, drop_last=drop_last)
        expected = [batch.tolist() for batch in DataLoader(range(23), 5, drop_last=drop_last)]
        assert rows(loader) == expected
        assert len(loader) == len(expected)


def test_each_epoch_sees_every_image_once_in_an_order_of_its_own():
    loader = DeviceLoader(numbered(23), 5, shuffle=True)
    first, second = flat(rows(loader)), flat(rows(loader))
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert first != sorted(first)


def test_order_is_a_function_of_seed_and_epoch_only():
    torch.manual_seed(1)
    first = DeviceLoader(numbered(50), 5, shuffle=True, seed=3)
    epochs = [rows(first) for _ in range(3)]
    torch.manual_seed(2)
    again = DeviceLoader(numbered(50), 10, shuffle=True, seed=3)  # another batch size, the same order
    assert [flat(rows(again)) for _ in range(3)] == [flat(epoch) for epoch in epochs]
    other = DeviceLoader(numbered(50), 5, shuffle=True, seed=4)
    orders = {tuple(flat(epoch)) for epoch in [*epochs, *(rows(other) for _ in range(3))]}
    assert len(orders) == 6  # in particular (seed 3, epoch 1) is not (seed 4, epoch 0)


def test_the_order_never_changes():
    # A checkpoint resumed with a later version must go on with the same images.
    assert rows(DeviceLoader(numbered(8), 8, shuffle=True, seed=5)) == [[3, 1, 5, 4, 6, 7, 2, 0]]


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_together_see_what_one_process_sees(world_size):
    one = rows(DeviceLoader(numbered(100), 12, shuffle=True, drop_last=True))
    batch = 12 // world_size
    ranks = [
        DeviceLoader(numbered(100), batch, shuffle=True, drop_last=True, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert {len(loader) for loader in ranks} == {len(one)}
    joined = [flat(parts) for parts in zip(*(rows(loader) for loader in ranks), strict=True)]
    assert joined == one


@pytest.mark.parametrize("count", [16, 17, 18, 19, 22, 24])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_neither_drops_nor_repeats_images(count, world_size):
    loaders = [DeviceLoader(numbered(count), 4, rank=rank, world_size=world_size) for rank in range(world_size)]
    passes = [rows(loader) for loader in loaders]
    assert [len(batches) for batches in passes] == [len(loader) for loader in loaders]
    assert sorted(row for batches in passes for batch in batches for row in batch) == list(range(count))
    assert all(1 <= len(batch) <= 4 for batches in passes for batch in batches)


def gathered_rows(count):
    """In a process of a group: the rows of each global batch, gathered from all ranks."""
    rank, size = dist.get_rank(), dist.get_world_size()
    loader = DeviceLoader(numbered(count), 8, shuffle=True, drop_last=True, rank=rank, world_size=size)
    result = []
    for batch in loader:
        parts = [torch.empty_like(batch.indices) for _ in range(size)]
        dist.all_gather(parts, batch.indices)
        result.append(torch.cat(parts))
    return torch.stack(result)


def test_two_processes_of_8_see_one_of_16(tmp_path):
    results = run_in_processes(gathered_rows, tmp_path, 100)
    expected = rows(DeviceLoader(numbered(100), 16, shuffle=True, drop_last=True))
    for result in results:
        assert result.tolist() == expected


@pytest.mark.parametrize("consumed", [0, 1, 3, 4, 5, 7])
def test_a_restored_loader_goes_on_where_the_saved_one_stood(consumed):
    def loader():
        return DeviceLoader(numbered(17), 4, shuffle=True, drop_last=True, seed=2)  # 4 batches an epoch

    reference = loader()
    expected = [batch for _ in range(3) for batch in rows(reference)]

    first, seen = loader(), []
    while len(seen) < consumed:
        for batch in itertools.islice(first, consumed - len(seen)):
            seen.append(batch.indices.tolist())
    state = first.state_dict()
    assert all(isinstance(value, int) for value in state.values())

    second = loader()
    second.load_state_dict(state)
    while len(seen) < len(expected):
        seen += rows(second)
    assert seen == expected
    assert len(second) == 4  # the length is that of a whole epoch


def test_a_pass_that_is_given_up_ends_its_epoch():
    loader = DeviceLoader(numbered(20), 4, shuffle=True)
    next(iter(loader))
    fresh = DeviceLoader(numbered(20), 4, shuffle=True)
    rows(fresh)
    assert rows(loader) == rows(fresh)


def test_an_unused_iterator_does_not_count_as_a_pass():
    loader = DeviceLoader(numbered(20), 4, shuffle=True)
    iter(loader)
    assert rows(loader) == rows(DeviceLoader(numbered(20), 4, shuffle=True))


def test_position_of_a_trainer_wins():
    expected = DeviceLoader(numbered(20), 4, shuffle=True)
    rows(expected)
    second = rows(expected)
    position = (1, 2)
    loader = DeviceLoader(numbered(20), 4, shuffle=True, position=lambda: position)
    assert rows(loader) == second[2:]
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (1, 2)


@pytest.mark.parametrize(("name", "changed"), [("seed", {"seed": 1}), ("global_batch", {"batch_size": 5})])
def test_the_middle_of_an_epoch_needs_the_same_settings(name, changed):
    settings = {"batch_size": 4, "seed": 0}
    loader = DeviceLoader(numbered(20), shuffle=True, **settings)
    other = DeviceLoader(numbered(20), shuffle=True, **{**settings, **changed})
    other.load_state_dict(loader.state_dict())  # between epochs anything goes
    next(iter(loader))
    with pytest.raises(UserError, match=rf"within an epoch with {name} "):
        other.load_state_dict(loader.state_dict())


def test_two_halves_may_take_over_from_one_whole():
    whole = DeviceLoader(numbered(20), 4, shuffle=True)
    batches = iter(whole)
    next(batches)
    halves = [DeviceLoader(numbered(20), 2, shuffle=True, rank=rank, world_size=2) for rank in (0, 1)]
    for half in halves:
        half.load_state_dict(whole.state_dict())
    expected = [batch.indices.tolist() for batch in batches]
    assert [a + b for a, b in zip(*map(rows, halves), strict=True)] == expected


def test_fewer_images_than_a_batch():
    with pytest.raises(UserError, match="7 images are fewer than one batch"):
        DeviceLoader(numbered(7), 8, drop_last=True)
    with pytest.raises(UserError, match="4 in each of 2 processes"):
        DeviceLoader(numbered(7), 4, drop_last=True, world_size=2)
    assert rows(DeviceLoader(numbered(7), 8)) == [list(range(7))]


@pytest.mark.parametrize(
    "settings", [{"batch_size": 0}, {"batch_size": 4, "seed": -1}, {"batch_size": 4, "seed": 2**32}]
)
def test_impossible_settings(settings):
    with pytest.raises(UserError, match="must be"):
        DeviceLoader(numbered(8), **settings)


@pytest.mark.parametrize(
    ("images", "labels"),
    [((8, 3, 4, 4), 7), ((8, 1, 4, 4), 8), ((8, 4, 4, 3), 8), ((8, 48), 8)],
)
def test_what_are_no_images_is_told(images, labels):
    with pytest.raises(UserError, match=r"images must be uint8 \(N, 3, S, S\)"):
        DeviceLoader(Split(torch.zeros(images, dtype=torch.uint8), torch.zeros(labels, dtype=torch.int64)), 4)
    with pytest.raises(UserError, match=r"found torch.float32 \(8, 3, 4, 4\)"):
        DeviceLoader(Split(torch.rand(8, 3, 4, 4), torch.zeros(8, dtype=torch.int64)), 4)


def test_batches_live_on_the_asked_device():
    loader = DeviceLoader(numbered(8).to("meta"), 4, shuffle=True)
    assert loader.split.images.device.type == "meta"
    assert {tensor.device.type for tensor in next(iter(loader))} == {"meta"}


def test_batches_do_not_depend_on_the_layout_of_the_split():
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.arange(10))
    laid_out = split.channels_last()
    assert torch.equal(laid_out.images, images)
    for a, b in zip(DeviceLoader(split, 4, shuffle=True), DeviceLoader(laid_out, 4, shuffle=True), strict=True):
        assert torch.equal(a.images, normalise(images[a.indices]))
        assert torch.equal(a.images, b.images)
        assert a.images.is_contiguous(memory_format=torch.channels_last)
        assert b.images.is_contiguous(memory_format=torch.channels_last)
