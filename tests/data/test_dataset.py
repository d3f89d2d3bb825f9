import hashlib

import pytest
import torch

from dim.data import dataset as module
from dim.data.dataset import Dataset, Split, resized, split_validation
from dim.errors import UserError


def numbered(counts, side=2):
    """A split of counts[c] images of class c, classes interleaved; image i holds i in its first two bytes."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    images = torch.zeros(len(labels), 3, side, side, dtype=torch.uint8)
    number = torch.arange(len(labels))
    images[:, 0, 0, 0], images[:, 0, 0, 1] = number // 256, number % 256
    return Split(images, labels)


def numbers(split):
    return (split.images[:, 0, 0, 0].long() * 256 + split.images[:, 0, 0, 1]).tolist()


def test_validation_is_stratified_and_disjoint():
    split = numbered([500, 300, 200])
    train, validation = split_validation(split, 100)
    assert torch.bincount(validation.labels).tolist() == [50, 30, 20]
    assert sorted(numbers(train) + numbers(validation)) == list(range(1000))
    assert numbers(train) == sorted(numbers(train))
    assert torch.equal(validation.labels, split.labels[numbers(validation)])


def test_validation_of_uneven_classes_has_the_asked_size():
    for size in (1, 7, 13, 99):
        counts = torch.bincount(split_validation(numbered([41, 37, 22]), size)[1].labels, minlength=3)
        assert counts.sum() == size
        assert (counts - torch.tensor([0.41, 0.37, 0.22]) * size).abs().max() < 1


def test_validation_does_not_depend_on_global_seeds():
    split = numbered([50, 50])
    torch.manual_seed(1)
    first = split_validation(split, 10)[1]
    torch.manual_seed(2)
    assert numbers(split_validation(split, 10)[1]) == numbers(first)


def test_the_validation_images_never_change():
    # Numbers on a validation split can be compared only as long as these rows stay.
    labels = torch.arange(20) % 2
    images = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(20, 3, 2, 2)
    assert split_validation(Split(images, labels), 6)[1].images[:, 0, 0, 0].tolist() == [3, 4, 7, 8, 11, 16]


def test_no_validation_leaves_the_split_alone():
    split = numbered([5, 5])
    train, validation = split_validation(split, 0)
    assert train is split
    assert validation.images.shape == (0, 3, 2, 2)


@pytest.mark.parametrize("size", [-1, 10, 11])
def test_impossible_validation_sizes(size):
    with pytest.raises(UserError, match=f"validation is {size}"):
        split_validation(numbered([5, 5]), size)


def test_fingerprint_tells_any_change(monkeypatch):
    monkeypatch.setattr(module, "HASHED", 3)

    def dataset(train, test):
        return Dataset("x", train, test, ("a", "b"))

    train, test = numbered([5, 5]), numbered([2, 2])
    reference = dataset(train, test).fingerprint
    assert dataset(Split(*(part.clone() for part in train)), test).fingerprint == reference
    assert dataset(train.channels_last(), test.channels_last()).fingerprint == reference
    digest = hashlib.sha256()
    for tensor in (*train, *test):
        digest.update(repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    assert reference == digest.hexdigest()
    pixel = train.images.clone()
    pixel[3, 1, 1, 1] += 1
    label = train.labels.clone()
    label[0] = 1 - label[0]
    changed = [dataset(Split(pixel, train.labels), test), dataset(Split(train.images, label), test)]
    changed.append(dataset(test, train))
    assert len({reference, *(other.fingerprint for other in changed)}) == 4
    assert len(reference) == 64


def test_resizing_is_antialiased_and_keeps_constants():
    images = torch.full((3, 3, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(resized(images, 4), images[..., :4, :4])
    stripes = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    stripes[..., [1, 2, 5, 6]] = 200  # without antialiasing a reduction to a quarter looks at these columns only
    assert (resized(stripes, 2).float() - 100).abs().max() < 30
    assert resized(images, 8) is images


def test_images_that_are_spread_are_of_all_classes_even_in_class_order():
    split = Split(torch.zeros(100, 3, 2, 2, dtype=torch.uint8), torch.arange(100) // 10)
    assert split.spread(10).labels.tolist() == list(range(10))
    assert split.spread(7).labels.tolist() == [0, 1, 2, 4, 5, 7, 8]
    assert len(split.spread(1000).labels) == 100
    assert len(split.spread(0).labels) == 0
