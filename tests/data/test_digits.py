import torch
from sklearn.datasets import load_digits

from dim.data import digits


def test_both_splits_are_scikit_learns_images():
    data = digits.load(8)
    assert [len(split.labels) for split in (data.train, data.test)] == [1437, 360]
    found = torch.cat([data.train.images, data.test.images])
    assert torch.equal(found[:, 0], found[:, 2])
    ours = sorted(image.flatten().tolist() for image in found[:, 0])
    theirs = torch.from_numpy(load_digits().images).mul(255 / 16).round().to(torch.uint8)
    assert ours == sorted(image.flatten().tolist() for image in theirs)


def test_digits_are_enlarged_to_the_encoders_size():
    assert digits.load(None).train.images.shape == (1437, 3, 32, 32)
    assert digits.load(64).test.images.shape == (360, 3, 64, 64)
