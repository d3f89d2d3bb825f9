import pytest
import torch
from sklearn.datasets import load_digits

from dim.data.sources import load_dataset
from dim.errors import UserError


def test_digits_are_scikit_learns():
    dataset = load_dataset("digits", image_size=8)
    assert dataset.train.images.shape == (1437, 3, 8, 8)
    assert dataset.test.images.shape == (360, 3, 8, 8)
    assert dataset.classes == tuple("0123456789")
    digits = load_digits()
    expected = {(*map(int, row), int(label)) for row, label in zip(digits.data, digits.target, strict=True)}
    images = torch.cat([dataset.train.images, dataset.test.images])
    levels = (images.float() * 16 / 255).round().long()
    labels = torch.cat([dataset.train.labels, dataset.test.labels])
    found = {(*levels[i, 0].reshape(-1).tolist(), int(labels[i])) for i in range(len(labels))}
    assert found == expected
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])


def test_digits_are_enlarged_and_split_alike_each_time():
    first, second = load_dataset("digits"), load_dataset("digits")
    assert first.train.images.shape[1:] == (3, 32, 32)
    assert first.train.images.dtype == torch.uint8
    assert first.train.labels.dtype == torch.int64
    assert first.fingerprint == second.fingerprint
    counts = torch.bincount(first.test.labels)
    assert counts.max() - counts.min() <= 2


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"")
    for source in ("cifar10", "folder"):
        with pytest.raises(UserError, match=r"data\.zip is a file"):
            load_dataset(source, tmp_path / "data.zip")


@pytest.mark.parametrize("size", [0, -32])
def test_impossible_image_sizes(size):
    with pytest.raises(UserError, match="image_size"):
        load_dataset("digits", image_size=size)


def test_unknown_source():
    with pytest.raises(UserError, match="unknown source 'mnist'"):
        load_dataset("mnist")  # type: ignore[arg-type]
