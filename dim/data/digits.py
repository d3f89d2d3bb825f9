"""scikit-learn's handwritten digits, 1,797 real images of 8x8 embedded in that package, as RGB images."""

import torch
from sklearn import datasets

from dim.data.dataset import Dataset, Split, resized, split_validation

TEST_IMAGES = 360  # a fifth; the data set comes without an official split
TRAIN_IMAGES = 1_797 - TEST_IMAGES


def load(image_size: int | None) -> Dataset:
    """1,437 training and 360 test images, enlarged to `image_size` (32 if None), grey repeated as RGB."""
    digits = datasets.load_digits()
    grey = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)
    images = resized(grey[:, None].expand(-1, 3, -1, -1), image_size or 32)
    whole = Split(images.contiguous(), torch.from_numpy(digits.target).to(torch.int64))
    train, test = split_validation(whole, TEST_IMAGES)
    return Dataset("digits", train, test, tuple(str(name) for name in digits.target_names))
