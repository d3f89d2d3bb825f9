"""Real features for the evaluations: scikit-learn's embedded 8x8 digits."""

import math
from typing import NamedTuple

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor


class Digits(NamedTuple):
    """Pixels (N, 64) in 0 to 16 and labels, first 1200 rows for training, 597 others for testing."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@pytest.fixture(scope="session")
def digits() -> Digits:
    pixels, labels = load_digits(return_X_y=True)
    features, targets = torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    features, targets = features[order], targets[order]
    return Digits(features[:1200], targets[:1200], features[1200:], targets[1200:])


@pytest.fixture(scope="session")
def shuffled(digits: Digits) -> Digits:
    """The same pixels with training labels that have nothing to do with them."""
    order = torch.randperm(len(digits.train_labels), generator=torch.Generator().manual_seed(1))
    return digits._replace(train_labels=digits.train_labels[order])


@pytest.fixture
def rates(monkeypatch):
    """Learning rates of all steps that Adam has taken so far."""
    taken = []

    class Watched(torch.optim.Adam):
        def step(self, closure=None):
            taken.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    return taken


@pytest.fixture(scope="session")
def cosine():
    """What a cosine makes of a learning rate: the rates of so many steps."""
    return lambda rate, steps: [rate * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
