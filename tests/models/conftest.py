import pytest
import torch
from sklearn.datasets import load_digits

from dim.data.loader import Batch


@pytest.fixture(scope="session")
def batch():
    digits = torch.tensor(load_digits().images[:32] / 8 - 1, dtype=torch.float32)
    images = torch.nn.functional.interpolate(digits[:, None], size=32).expand(-1, 3, -1, -1)
    return Batch(images, torch.tensor(load_digits().target[:32]), torch.arange(32))


@pytest.fixture
def felt():
    """Which networks feel the sum of the losses called `names`."""

    def felt_by(model, batch, names):
        model.zero_grad()
        model.reseed(0, 0)
        step = model.losses(batch)
        torch.stack([step.losses[name] for name in names]).sum().backward()
        parts = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        return {name.split(".")[1] if name.startswith("critics.") else name.split(".")[0] for name in parts}

    return felt_by
